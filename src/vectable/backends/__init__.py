"""Backends: where rows and cells live. `vectable.storage` opens them by URL, each when first asked for."""
