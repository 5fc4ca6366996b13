"""Opening a view with the resident rows at exactly that view's mark."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from vectable.core.mark import Mark
from vectable.core.predicate import TRUE
from vectable.core.schema import Table, Version
from vectable.engine.resident.columns import FilterColumn
from vectable.engine.resident.load import refresh
from vectable.engine.resident.recent import RecentRows
from vectable.engine.resident.registry import ResidentRegistry
from vectable.engine.resident.resident import Behind, GivenUp, Resident, ResidentKey
from vectable.engine.resident.snapshot import Snapshot
from vectable.engine.search.catch_up import AT_ONCE, WHY, CatchUps
from vectable.engine.search.turn import Turn
from vectable.engine.search.upkeep import Upkeep
from vectable.interfaces import Backend, View

_T = TypeVar("_T")
_ROW_OVERHEAD = 120
"""Bytes a row needs beside its vector: key, offset, scale, fast-scan code."""
_REFUSED_S = 5.0
_RECENT_SHARE = 32
"""So small a part of the budget may go to the rows of hits, for each version."""


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
        self.turn = Turn()
        self.upkeep = Upkeep(registry, directory, backend.capabilities.index_kinds)
        self._refused: dict[ResidentKey, tuple[float, str]] = {}
        """Until when rows found too large to be held are not counted again, and what was said of them."""
        self.catch_ups = CatchUps()
        registry.attach(self._owner)

    async def close(self) -> None:
        """Lets go of resident rows nobody else uses."""
        await self.catch_ups.close()
        self.registry.detach(self._owner)

    def key(self, table: Table, version: Version, stale: bool) -> ResidentKey:
        """Names what is held of a version."""
        return ResidentKey(self._database, table.id, version.id, stale, self._owner)

    def held(self, table: Table, version: Version, stale: bool) -> Resident | None:
        """The resident rows of a version, if they are held now: in use, as far as eviction is concerned."""
        return self.registry.touch(self.key(table, version, stale))

    def drop_structure(self, table: Table, version: Version, stale: bool, name: str) -> None:
        """Forgets an index over resident rows, and its file."""
        key = self.key(table, version, stale)
        resident = self.registry.peek(key) or self.make(key, version)
        resident.structures = {n: s for n, s in resident.structures.items() if n != name}
        path = self.upkeep.structure_path(resident, name)
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    async def compute(self, work: Callable[[], _T], quick: bool = False) -> _T:
        """Runs what only computes: here when this is a worker thread already, or it is quick and nobody waits
        for a turn yet, else on one."""
        if self.inline:
            return work()
        if quick and not self.turn.crowded:
            async with self.turn:
                return work()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def make(self, key: ResidentKey, version: Version) -> Resident:
        """Resident rows of a version, not loaded yet."""
        most, room = self.registry.budget // _RECENT_SHARE, self.registry.has_room
        recent = None if self.inline else RecentRows(most, room)
        return Resident(key, version, self.upkeep.base_path(version.id, key.stale), self.inline, recent)

    def read(
        self,
        table: Table,
        version: Version,
        stale: bool,
        wanted: tuple[FilterColumn, ...],
        at_least: Mark | None,
        *,
        patient: bool = False,
    ) -> AbstractAsyncContextManager[Reading]:
        """A view with the resident rows of a version, the wanted filter columns loaded. Where many rows have
        changed, only the `patient` wait for them: others get the view alone."""
        return _Open(self, table, version, stale, wanted, at_least, patient=patient or self.inline)

    async def brought_up(
        self,
        resident: Resident,
        view: View,
        table: Table,
        wanted: tuple[FilterColumn, ...],
        *,
        patient: bool,
    ) -> Reading:
        """The reading of a view opened behind the gate, for rows that are not at its mark yet."""
        held = resident.snapshot
        first = held is None
        resident.moving = held is not None and held.mark != view.mark
        if first:
            rows = await view.count(self.backend.push(table, TRUE))
            need = rows * (resident.version.dimensions * 4 + _ROW_OVERHEAD)
            if not self.registry.grant(resident, need):
                return Reading(view, None, None, self._too_large(resident, rows, need))
        try:
            most = None if patient else AT_ONCE
            snapshot = await refresh(resident, self.backend, view, table, wanted, self._step, most)
        except GivenUp:
            return Reading(view, None, None, "the rows in memory were given up meanwhile")
        except Behind:
            self.catch_ups.start(resident.key, lambda: self._caught_up(resident, table))
            return Reading(view, None, None, WHY)
        if first or any(c.id in snapshot.columns for c in wanted):
            fits = self.registry.fits(resident)
            need = resident.nbytes
            self.registry.settle(resident)
            if not fits:
                resident.forget()
                return Reading(view, None, None, self._too_large(resident, snapshot.rows, need))
        return Reading(view, snapshot, resident)

    async def _caught_up(self, resident: Resident, table: Table) -> None:
        with self.registry.use(resident.key, lambda: resident) as held:
            if held is not resident:
                return
            async with resident.gate, self.backend.view(table) as view:
                await self.brought_up(resident, view, table, (), patient=True)

    async def _step(self, work: Callable[[], None]) -> None:
        await self.compute(work)

    def _too_large(self, resident: Resident, rows: int, need: int) -> str:
        mib, budget = need / (1 << 20), self.registry.budget / (1 << 20)
        why = (
            f"{rows:,} rows need {mib:,.0f} MiB, more than is free of the {budget:,.0f} MiB for resident rows"
        )
        if need > self.registry.budget:
            self._refused[resident.key] = time.monotonic() + _REFUSED_S, why
        return why

    def refused(self, key: ResidentKey) -> str:
        """Why these rows were found too large a moment ago; "" where they were not."""
        until, why = self._refused.get(key, (0.0, ""))
        if why and until < time.monotonic():
            self._refused.pop(key, None)
            return ""
        return why


class _Open:
    """`async with`: one reading. A class, for nested generators take a twentieth of a small search."""

    __slots__ = (
        "_at_least",
        "_held",
        "_key",
        "_patient",
        "_reader",
        "_table",
        "_version",
        "_viewing",
        "_wanted",
    )

    def __init__(
        self,
        reader: Reader,
        table: Table,
        version: Version,
        stale: bool,
        wanted: tuple[FilterColumn, ...],
        at_least: Mark | None,
        *,
        patient: bool,
    ) -> None:
        self._patient = patient
        self._reader = reader
        self._table = table
        self._version = version
        self._wanted = wanted
        self._at_least = at_least
        self._key = reader.key(table, version, stale)
        self._held = False
        self._viewing: AbstractAsyncContextManager[View] | None = None

    async def __aenter__(self) -> Reading:
        reader = self._reader
        if reader.registry.budget <= 0:
            return Reading(await self._view(), None, None, "nothing is held in memory here")
        resident = reader.registry.enter(self._key, lambda: reader.make(self._key, self._version))
        self._held = True
        try:
            return await self._over(resident)
        except BaseException:
            await self.__aexit__(*sys.exc_info())
            raise

    async def _over(self, resident: Resident) -> Reading:
        view = await self._view()
        snapshot = resident.snapshot
        if snapshot is not None and snapshot.mark == view.mark and snapshot.has(self._wanted):
            resident.moving = False
            return Reading(view, snapshot, resident)
        if snapshot is None and (why := self._reader.refused(self._key)):
            return Reading(view, None, None, why)
        if not self._patient and self._reader.catch_ups.under_way(self._key):
            return Reading(view, None, None, WHY)
        await self._close(None, None, None)
        # The view is opened behind the gate, so that no older one can follow a newer one.
        async with resident.gate:
            view = await self._view()
            return await self._reader.brought_up(
                resident, view, self._table, self._wanted, patient=self._patient
            )

    async def _view(self) -> View:
        viewing = self._reader.backend.view(self._table, self._at_least)
        view = await viewing.__aenter__()
        self._viewing = viewing
        return view

    async def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        viewing, self._viewing = self._viewing, None
        if viewing is not None:
            await viewing.__aexit__(kind, error, trace)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._close(kind, error, trace)
        finally:
            if self._held:
                self._reader.registry.leave(self._key)
