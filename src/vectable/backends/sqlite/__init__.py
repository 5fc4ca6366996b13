"""Rows and cells in SQLite: the embedded default."""

from vectable.backends.sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend"]
