"""Figures, printed beside their targets: `make bench`, or `make bench ONLY=search`."""
