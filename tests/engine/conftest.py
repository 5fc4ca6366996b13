"""An engine over each kind of storage: the oracle, the hostile toy, SQLite and PostgreSQL; with a model that
fails on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vectable import providers
from vectable.config import Settings
from vectable.core.context import LOCAL
from vectable.core.vectors import Matrix
from vectable.engine.catalog import Catalog
from vectable.engine.columns import EmbeddingColumns
from vectable.engine.embed import Embedder
from vectable.engine.jobs import Jobs
from vectable.engine.leases import Leases
from vectable.engine.refresh import Refresher
from vectable.engine.sweep import Sweeper
from vectable.engine.write import Writer
from vectable.errors import ProviderError
from vectable.interfaces import Item, ModelIdentity, Purpose
from vectable.providers.hashing import HashingProvider
from vectable.storage import Storage, open_storage
from vectable.testing.hostile_backend import HostileBackend

KINDS = ("memory", "hostile", "sqlite", "postgres")


@dataclass
class CountingProvider:
    """The real hashing model, counting what it is asked, failing on texts that hold "poison" and altogether
    while `down`."""

    inner: HashingProvider
    embedded: list[Item] = field(default_factory=list)
    down: bool = False
    before: Callable[[], Any] | None = None

    @property
    def model(self) -> ModelIdentity:
        return self.inner.model

    @property
    def dimensions(self) -> int:
        return self.inner.dimensions

    max_tokens = 256
    max_batch = 64
    modalities = frozenset({"text", "image"})
    normalizes = True

    def prompt(self, purpose: Purpose) -> str:
        return ""

    def lengths(self, items: Sequence[Item]) -> list[int]:
        return [len(i) // 4 + 1 for i in items]

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> Matrix:
        if self.before is not None:
            await self.before()
        if self.down:
            raise ProviderError("the model is down")
        for item in items:
            if isinstance(item, str) and "poison" in item:
                raise ProviderError("the model cannot take this text")
        self.embedded.extend(items)
        return np.asarray(await self.inner.embed(items, purpose), dtype=np.float32)

    async def close(self) -> None:
        await self.inner.close()


@dataclass
class Engine:
    """The writing half of a database, wired as `Database` does."""

    storage: Storage
    settings: Settings
    provider: CountingProvider

    def __post_init__(self) -> None:
        backend, state = self.storage.backend, self.storage.state
        self.backend, self.state = backend, state
        self.leases = Leases(state)
        self.jobs = Jobs(state, self.leases)
        self.catalog = Catalog(state, backend)
        self.embedder = Embedder(providers, self.settings, self.storage.cache)
        self.embedder.models.add(self.settings.text_model, self.provider)
        self.refresher = Refresher(
            backend, self.catalog, self.embedder, self.jobs, self.leases, self.settings.inline_cells
        )
        self.sweeper = Sweeper(
            self.catalog, self.jobs, self.leases, self.refresher, self.settings.inline_cells
        )
        self.writer = Writer(backend, self.catalog, self.embedder, self.refresher, self.sweeper)
        self.columns = EmbeddingColumns(backend, self.catalog, self.embedder, self.refresher, self.leases)

    def again(self) -> Engine:
        """A second process's engine over the same storage."""
        return Engine(self.storage, self.settings, self.provider)

    async def rows(self, name: str, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Every row, in key order."""
        from vectable.core.predicate import TRUE

        table = await self.catalog.get(LOCAL, name)
        names = list(columns or [c.name for c in table.stored_columns])
        async with self.backend.view(table, self.catalog.marks.get(table.id)) as view:
            return [
                row
                async for batch in view.scan(self.backend.push(table, TRUE), names)
                for row in batch.rows()
            ]

    async def states(self, name: str, column: str) -> dict[str, int]:
        """Cells by state, the empty states left out."""
        table = await self.catalog.get(LOCAL, name)
        states = await self.columns.states(table, table.column(column))
        return {state: n for state, n in states.items() if n}

    async def close(self) -> None:
        await self.jobs.close()


async def _storage(kind: str, directory: Path, server: str | None) -> Storage:
    if server is not None:
        return await open_storage(server, Settings(postgres_pool_min=1))
    if kind == "sqlite":
        return await open_storage(directory / "db", Settings())
    storage = await open_storage("memory:", Settings())
    if kind == "hostile":
        backend = HostileBackend()
        await backend.open()
        storage.backend, storage.close = backend, backend.close
    return storage


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of storage under the engine."""
    return str(request.param)


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> str | None:
    """The address of an empty database, where this kind of storage needs one."""
    return request.getfixturevalue("postgres_url") if kind == "postgres" else None


@pytest.fixture
async def engine(kind: str, server: str | None, tmp_path: Path) -> AsyncIterator[Engine]:
    storage = await _storage(kind, tmp_path, server)
    engine = Engine(storage, Settings(text_model="hashing/32"), CountingProvider(HashingProvider(32)))
    yield engine
    await engine.close()
    await storage.close()
