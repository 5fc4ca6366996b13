"""Keeping up with tables that others own: what they change is noticed within seconds, and embedded.

Whoever has the database open does it; several processes share the work, a batch each.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from vectable.core.context import LOCAL
from vectable.core.foreign import ForeignTables
from vectable.core.key import KeyBytes
from vectable.core.schema import Table
from vectable.engine.catalog import Catalog
from vectable.engine.refresh import Refresher
from vectable.engine.sweep import Sweeper
from vectable.errors import BackendBusy, StaleGeneration, TableNotFound, VectableError

_TICK_S = 0.5
"""Between looks at the queues."""
_NONE_S = 3.0
"""Between looks for attached tables while there are none."""
_WATCH_S = 15.0
"""Between looks whether the triggers are still there, or may be put there by now."""
_RECENT_S = 1.0
"""Between looks at the rows changed last, where nobody tells of changes."""
_LEFT_S = 5.0
"""Between looks for cells that somebody noticed and never embedded."""
_OVERLAP_S = 120.0
"""So much earlier than the newest change another one may have been made that is committed only now."""
_TOLD_S, _RECENT_KNOWN_S, _UNTOLD_S = 600.0, 8.0, 2.0
"""Between comparisons of everything: where triggers tell of changes (they may have been off for a while),
where the time of a change is known, and where nothing is."""
_SHARE = 20
"""Looking for changes takes no more than this part of the time."""
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pace:
    """When to look at what, by the monotonic clock."""

    told: bool = False
    watch: float = 0.0
    recent: float = 0.0
    compare: float = 0.0
    left: float = 0.0
    pending: Mapping[str, Set[KeyBytes]] = field(default_factory=dict)
    """What was pending when it was last looked for what is left."""


class Noticer:
    """Looks after the attached tables of one database, in the background of this process."""

    def __init__(
        self, foreign: ForeignTables, catalog: Catalog, refresher: Refresher, sweeper: Sweeper
    ) -> None:
        self._foreign = foreign
        self._catalog = catalog
        self._refresher = refresher
        self._sweeper = sweeper
        self._paces: dict[str, _Pace] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look after them; until `close`."""
        if self._task is None:
            self._task = asyncio.create_task(self._tend(), name="notice")

    async def close(self) -> None:
        """Stops. What was under way has not happened, or is done."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _tend(self) -> None:
        while True:
            tables: list[Table] = []
            try:
                tables = [t for t in await self._catalog.list(LOCAL) if t.foreign is not None]
            except VectableError as error:
                log.info("attached tables cannot be looked for: %s", error)
            self._paces = {t.id: self._paces.get(t.id, _Pace()) for t in tables}
            busy = [await self._tended(table) for table in tables]
            await asyncio.sleep(0 if any(busy) else _TICK_S if tables else _NONE_S)

    async def _tended(self, table: Table) -> bool:
        """One look; whether there is more to do at once. Never fails."""
        try:
            await self._look(table, self._paces[table.id])
            more = await self._work(table)
            await self._take_up(table, self._paces[table.id])
            return more
        except (StaleGeneration, TableNotFound, BackendBusy) as error:
            log.info("changes of %s wait a moment: %s", table.full_name, error.detail)
        except VectableError as error:
            log.warning("changes of %s cannot be noticed: %s", table.full_name, error)
            await asyncio.sleep(_TICK_S)
        except Exception:
            log.exception("noticing changes of %s has failed", table.full_name)
            await asyncio.sleep(_NONE_S)
        return False

    async def _look(self, table: Table, pace: _Pace) -> None:
        """Makes sure that changes are told, else looks for them, each at its time."""
        now = time.monotonic()
        if now >= pace.watch:
            pace.watch = now + _WATCH_S
            told = await self._watched(table)
            if pace.told and not told:
                pace.compare = now
            pace.told = told
        if now >= pace.compare:
            await self._foreign.compare(table)
            known = table.foreign is not None and table.foreign.updated_at is not None
            pause = _TOLD_S if pace.told else _RECENT_KNOWN_S if known else _UNTOLD_S
            pace.compare = _paced(now, pause)
        elif not pace.told and now >= pace.recent and table.foreign and table.foreign.updated_at:
            await self._foreign.compare(table, _OVERLAP_S)
            pace.recent = _paced(now, _RECENT_S)

    async def _watched(self, table: Table) -> bool:
        try:
            return await self._foreign.watch(table)
        except BackendBusy as error:
            log.info("changes of %s are looked for meanwhile: %s", table.full_name, error.detail)
            return False

    async def _work(self, table: Table) -> bool:
        noticed = await self._foreign.notice(table)
        if noticed is None:
            return False
        if noticed.keys:
            await self._refresher.settle(table, noticed.keys, None)
        return noticed.more

    async def _take_up(self, table: Table, pace: _Pace) -> None:
        """Embeds what has been pending since the look before: whoever took note of it is gone."""
        now = time.monotonic()
        if now < pace.left:
            return
        pace.left = now + _LEFT_S
        before, pace.pending = pace.pending, await self._sweeper.pending_of(table)
        left = [version for version, keys in before.items() if keys & pace.pending.get(version, set())]
        if left:
            await self._sweeper.sweep(only=left)


def _paced(started: float, pause: float) -> float:
    """When to look again, after a look that began at `started` and is over now."""
    now = time.monotonic()
    return now + max(pause, (now - started) * _SHARE)
