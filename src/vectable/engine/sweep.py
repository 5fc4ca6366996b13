"""Sweeping: what processes that are gone left behind is taken up by whoever writes or serves next."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection
from contextlib import aclosing

from vectable.core.context import LOCAL
from vectable.core.key import KeyBytes
from vectable.core.predicate import TRUE
from vectable.core.schema import Table
from vectable.engine.catalog import Catalog
from vectable.engine.cells import Target, targets
from vectable.engine.jobs import Jobs
from vectable.engine.leases import Leases
from vectable.engine.refresh import PENDING, Refresher
from vectable.errors import (
    BackendError,
    EndpointError,
    ReadOnlyDatabase,
    StaleGeneration,
    TableNotFound,
    VectableError,
)

_WRITING_S = 10.0
"""Between the sweeps of a process that goes on writing."""
_TENDING_S = 5.0
"""Between the sweeps of a server."""
_GRACE_S = 2.0
"""Cells pending that long have nobody who is just about to embed them."""
log = logging.getLogger(__name__)


class Sweeper:
    """Takes up jobs whose process is gone, jobs that are owed, and pending cells nobody works on."""

    def __init__(
        self, catalog: Catalog, jobs: Jobs, leases: Leases, refresher: Refresher, inline_cells: int
    ) -> None:
        self._catalog = catalog
        self._jobs = jobs
        self._leases = leases
        self._refresher = refresher
        self._inline_cells = inline_cells
        self._due = 0.0
        self._task: asyncio.Task[None] | None = None

    async def before_write(self) -> None:
        """Before a process's first write: a sweep that embeds few cells at once, so that even a program that
        ends right after its write leaves no more pending than it found. From then on, as writes come, another
        one in the background now and then. Never fails."""
        now = time.monotonic()
        if now < self._due:
            return
        first, self._due = self._due == 0.0, now + _WRITING_S
        if first:
            await self._quietly(self._inline_cells)
        elif self._task is None or self._task.done():
            self._task = asyncio.create_task(self._abandoned(), name="sweep")

    async def tend(self) -> None:
        """Sweeps now and then, until cancelled."""
        await self._quietly()
        while True:
            await asyncio.sleep(_TENDING_S)
            await self._abandoned()

    async def sweep(self, inline_cells: int = 0, only: Collection[str] | None = None) -> None:
        """Cells of the versions in `only` (None: all): up to `inline_cells` of a version are embedded before
        this returns, more by a job."""
        await self._jobs.resume()
        unfinished = await self._jobs.unfinished()
        at_work = {j.payload["table"] for j in unfinished if j.job.kind in ("embed", "refresh", "attach")}
        for table in await self._catalog.list(LOCAL):
            if table.id in at_work:
                continue
            for target in targets(table, automatic=True):
                if only is None or target.version.id in only:
                    await self._sweep_target(target, inline_cells)

    async def _sweep_target(self, target: Target, inline_cells: int) -> None:
        if self._refresher.rests(target):
            return
        try:
            async with self._catalog.view(target.table) as view:
                counts = await view.cell_states(target.version.id)
            pending = sum(counts.get(state, 0) for state in PENDING)
            if pending == 0 or await self._leases.held(f"embed/{target.version.id}"):
                return
            if pending > inline_cells:
                await self._refresher.start_drain(target.table, pending)
            else:
                await self._refresher.fill_now(target)
        except (EndpointError, StaleGeneration, TableNotFound) as error:
            log.info("cells of %s are left to the next sweep: %s", target.table.full_name, error.detail)
        except BackendError as error:
            if target.table.foreign is None:
                raise
            log.warning("cells of %s cannot be looked at: %s", target.table.full_name, error)

    async def _quietly(self, inline_cells: int = 0, only: Collection[str] | None = None) -> None:
        try:
            await self.sweep(inline_cells, only)
        except ReadOnlyDatabase:
            pass  # whoever may write will do it
        except VectableError as error:
            log.warning("what other processes left waits for another time: %s", error)

    async def _abandoned(self) -> None:
        """A sweep that leaves alone what has become pending just now."""
        try:
            before = await self._pending()
            await asyncio.sleep(_GRACE_S if before else 0)
            after = await self._pending() if before else {}
        except VectableError as error:
            log.warning("pending cells could not be looked for: %s", error)
            return
        await self._quietly(only=[v for v, keys in before.items() if keys & after.get(v, set())])

    async def _pending(self) -> dict[str, set[KeyBytes]]:
        found: dict[str, set[KeyBytes]] = {}
        for table in await self._catalog.list(LOCAL):
            try:
                found |= await self.pending_of(table)
            except BackendError as error:
                if table.foreign is None:
                    raise
                # Its owner may have taken rights away: that is no reason to leave other tables alone.
                log.warning("pending cells of %s could not be looked for: %s", table.full_name, error)
        return found

    async def pending_of(self, table: Table) -> dict[str, set[KeyBytes]]:
        """Keys of the table's pending cells by version: the first few hundred of each that nobody works
        on."""
        found: dict[str, set[KeyBytes]] = {}
        for target in targets(table, automatic=True):
            if await self._leases.held(f"embed/{target.version.id}"):
                continue
            async with aclosing(self._refresher.pages(target, PENDING, TRUE)) as pages:
                async for batch in pages:
                    found[target.version.id] = set(batch.keys)
                    break
        return found

    async def close(self) -> None:
        """Stops what is under way in the background."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
