"""Rows and cells in PostgreSQL, as tables that anybody can read with plain SQL."""

from vectable.backends.postgres.backend import PostgresBackend
from vectable.backends.postgres.foreign.tables import PostgresForeignTables

__all__ = ["PostgresBackend", "PostgresForeignTables"]
