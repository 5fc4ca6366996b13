"""What users hold: databases, tables, queries and results. Asynchronous; `vectable.blocking` has those that
wait."""

from vectable.handles.database import AsyncDatabase, connect_async
from vectable.handles.query import AsyncTableQuery
from vectable.handles.result import Coverage, Result, Row
from vectable.handles.table import AsyncTable

__all__ = ["AsyncDatabase", "AsyncTable", "AsyncTableQuery", "Coverage", "Result", "Row", "connect_async"]
