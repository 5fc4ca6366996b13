"""The synchronous handles: the asynchronous ones, driven by one background event loop."""

from vectable.blocking.copying import copy
from vectable.blocking.database import Database, connect
from vectable.blocking.embedder import Embedder
from vectable.blocking.query import TableQuery
from vectable.blocking.table import Table

__all__ = ["Database", "Embedder", "Table", "TableQuery", "connect", "copy"]
