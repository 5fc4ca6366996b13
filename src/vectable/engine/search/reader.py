"""Opening a view with the resident rows at exactly that view's mark."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vectable.core.mark import Mark
from vectable.core.predicate import TRUE
from vectable.core.schema import Table, Version
from vectable.engine.resident.columns import FilterColumn
from vectable.engine.resident.load import refresh
from vectable.engine.resident.registry import ResidentRegistry
from vectable.engine.resident.resident import GivenUp, Resident, ResidentKey
from vectable.engine.resident.snapshot import Snapshot
from vectable.engine.search.upkeep import Upkeep
from vectable.interfaces import Backend, View

_T = TypeVar("_T")
_ROW_OVERHEAD = 120
"""Bytes a row needs beside its vector: key, offset, scale, fast-scan code."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A view, and the resident rows at its mark; without them, why not."""

    view: View
    snapshot: Snapshot | None
    resident: Resident | None
    why: str = ""


class Reader:
    """Reads of one database. `inline`: the backend's reads never suspend, so everything stays on one
    thread."""

    def __init__(
        self,
        database_id: str,
        backend: Backend,
        registry: ResidentRegistry,
        directory: Path | None,
        pool: Executor,
    ) -> None:
        self.backend = backend
        self.registry = registry
        self.inline = backend.capabilities.inline
        self._database = database_id
        place = str(directory.resolve()) if directory is not None else f"backend {id(backend)}"
        self._owner = place if self.inline else f"{place} {id(self)}"
        self._pool = pool
        self.upkeep = Upkeep(registry, directory)
        registry.attach(self._owner)

    def close(self) -> None:
        """Lets go of resident rows nobody else uses."""
        self.registry.detach(self._owner)

    def _key(self, table: Table, version: Version, stale: bool) -> ResidentKey:
        return ResidentKey(self._database, table.id, version.id, stale, self._owner)

    def held(self, table: Table, version: Version, stale: bool) -> Resident | None:
        """The resident rows of a version, if they are held now."""
        return self.registry.peek(self._key(table, version, stale))

    def drop_structure(self, table: Table, version: Version, stale: bool, name: str) -> None:
        """Forgets an index over resident rows, and its file."""
        key = self._key(table, version, stale)
        resident = self.registry.peek(key) or self._make(key, version)
        resident.structures = {n: s for n, s in resident.structures.items() if n != name}
        path = self.upkeep.structure_path(resident, name)
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    async def compute(self, work: Callable[[], _T]) -> _T:
        """Runs what only computes: here when this is a worker thread already, else on one."""
        if self.inline:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _make(self, key: ResidentKey, version: Version) -> Resident:
        return Resident(key, version, self.upkeep.base_path(version.id, key.stale), self.inline)

    @asynccontextmanager
    async def read(
        self,
        table: Table,
        version: Version,
        stale: bool,
        wanted: tuple[FilterColumn, ...],
        at_least: Mark | None,
    ) -> AsyncIterator[Reading]:
        """A view with the resident rows of a version, the wanted filter columns loaded."""
        if self.registry.budget <= 0:
            async with self.backend.view(table, at_least) as view:
                yield Reading(view, None, None, "nothing is held in memory here")
            return
        key = self._key(table, version, stale)
        with self.registry.use(key, lambda: self._make(key, version)) as resident:
            async with self.backend.view(table, at_least) as view:
                snapshot = resident.snapshot
                if snapshot is not None and snapshot.mark == view.mark and _has(snapshot, wanted):
                    yield Reading(view, snapshot, resident)
                    return
            async with AsyncExitStack() as stack:
                # The view is opened behind the gate, so that no older one can follow a newer one.
                async with resident.gate:
                    view = await stack.enter_async_context(self.backend.view(table, at_least))
                    reading = await self._brought_up(resident, view, table, wanted)
                yield reading

    async def _brought_up(
        self, resident: Resident, view: View, table: Table, wanted: tuple[FilterColumn, ...]
    ) -> Reading:
        first = resident.snapshot is None
        if first:
            rows = await view.count(self.backend.push(table, TRUE))
            need = rows * (resident.version.dimensions * 4 + _ROW_OVERHEAD)
            if not self.registry.grant(resident, need):
                return Reading(view, None, None, self._too_large(rows, need))
        try:
            snapshot = await refresh(resident, self.backend, view, table, wanted)
        except GivenUp:
            return Reading(view, None, None, "the rows in memory were given up meanwhile")
        if first or any(c.id in snapshot.columns for c in wanted):
            need = resident.nbytes
            fits = self.registry.grant(resident, need)
            self.registry.settle(resident)
            if not fits:
                resident.forget()
                return Reading(view, None, None, self._too_large(snapshot.rows, need))
        return Reading(view, snapshot, resident)

    def _too_large(self, rows: int, need: int) -> str:
        mib, budget = need / (1 << 20), self.registry.budget / (1 << 20)
        return (
            f"{rows:,} rows need {mib:,.0f} MiB, more than is free of the {budget:,.0f} MiB for resident rows"
        )


def _has(snapshot: Snapshot, wanted: tuple[FilterColumn, ...]) -> bool:
    return all(c.id in snapshot.columns for c in wanted)
