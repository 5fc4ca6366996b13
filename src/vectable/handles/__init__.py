"""What users hold: databases, tables, queries, results, embedders. Asynchronous; `vectable.blocking` has
those that wait."""

from vectable.handles.copying import copy_async
from vectable.handles.database import AsyncDatabase, connect_async
from vectable.handles.embedder import AsyncEmbedder
from vectable.handles.query import AsyncTableQuery
from vectable.handles.result import Coverage, Result, Row
from vectable.handles.table import AsyncTable

__all__ = [
    "AsyncDatabase",
    "AsyncEmbedder",
    "AsyncTable",
    "AsyncTableQuery",
    "Coverage",
    "Result",
    "Row",
    "connect_async",
    "copy_async",
]
