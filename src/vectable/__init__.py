"""Vectable: tables that embed themselves.

>>> import vectable
>>> db = vectable.connect("memory:", fake_embeddings=True)
>>> notes = db.create_table("notes", {"text": "string"})
>>> notes.insert([{"id": "1", "text": "tea with milk"}, {"id": "2", "text": "green tea"}])
2 rows: 2 inserted
>>> notes.add_embedding_column("meaning", source="text").states["ready"]
2
>>> notes.similar("green tea").select("text").first().text
'green tea'
>>> db.close()

`connect` gives handles that wait, `connect_async` the same ones for `asyncio`. Names here load when first
used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vectable import errors
    from vectable.blocking import Database, Embedder, Table, TableQuery, connect, copy
    from vectable.config import Settings
    from vectable.core.predicate import Field
    from vectable.core.query import Query
    from vectable.core.similarity import similarity
    from vectable.database import restore
    from vectable.errors import VectableError
    from vectable.handles import (
        AsyncDatabase,
        AsyncEmbedder,
        AsyncTable,
        AsyncTableQuery,
        Result,
        Row,
        connect_async,
        copy_async,
    )

    __version__: str

__all__ = [
    "AsyncDatabase",
    "AsyncEmbedder",
    "AsyncTable",
    "AsyncTableQuery",
    "Database",
    "Embedder",
    "Field",
    "Query",
    "Result",
    "Row",
    "Settings",
    "Table",
    "TableQuery",
    "VectableError",
    "__version__",
    "connect",
    "connect_async",
    "copy",
    "copy_async",
    "errors",
    "restore",
    "similarity",
]

_HOMES = {
    "AsyncDatabase": "handles",
    "AsyncEmbedder": "handles",
    "AsyncTable": "handles",
    "AsyncTableQuery": "handles",
    "Database": "blocking",
    "Embedder": "blocking",
    "Field": "core.predicate",
    "Query": "core.query",
    "Result": "handles",
    "Row": "handles",
    "Settings": "config",
    "Table": "blocking",
    "TableQuery": "blocking",
    "VectableError": "errors",
    "connect": "blocking",
    "connect_async": "handles",
    "copy": "blocking",
    "copy_async": "handles",
    "restore": "database",
    "similarity": "core.similarity",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("vectable")
    elif name == "errors":
        value = import_module("vectable.errors")
    elif name in _HOMES:
        value = getattr(import_module(f"vectable.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'vectable' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
