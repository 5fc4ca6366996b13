"""Rows and cells in PostgreSQL: how they lie there, and how reads are put into SQL."""
