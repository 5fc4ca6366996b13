"""Rows and cells in PostgreSQL, as tables that anybody can read with plain SQL."""

from vectable.backends.postgres.backend import PostgresBackend

__all__ = ["PostgresBackend"]
