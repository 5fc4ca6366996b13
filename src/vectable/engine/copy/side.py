"""The two sides of a copy: a database's parts that copying needs, and who is told how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from vectable.engine.catalog import Catalog
from vectable.engine.index import Indexer
from vectable.engine.jobs import Jobs
from vectable.engine.leases import Leases
from vectable.interfaces import Backend, StateStore, VectorCache

Stage = Literal["copy", "check", "compare", "index", "cache"]
Report = Callable[[Stage, str, int, int], None]
"""(stage, table or "", done, total)."""


class Side(Protocol):
    """A database, seen from here."""

    url: str
    identity: str
    backend: Backend
    state: StateStore
    cache: VectorCache
    catalog: Catalog
    leases: Leases
    jobs: Jobs
    indexer: Indexer
