"""Queries with `similar`: over resident rows where they are held, else in the backend."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from functools import partial

import numpy as np

from vectable.core.evaluate import row_test
from vectable.core.mark import Mark
from vectable.core.rows import Row
from vectable.core.vectors import to_bytes
from vectable.engine.resident.probe import Probe
from vectable.engine.resident.resident import FAST_SCAN, Resident
from vectable.engine.resident.snapshot import Snapshot
from vectable.engine.search.choose import FLAT_ROWS, Answer, Eligible, Held, search_resident
from vectable.engine.search.cursor import Place
from vectable.engine.search.in_backend import Asked, BackendSearch
from vectable.engine.search.page import Clock, Span, page_of, span_of
from vectable.engine.search.plain import scan_count
from vectable.engine.search.prepare import Prepared, Target
from vectable.engine.search.proved import Begin, ProvedRows
from vectable.engine.search.rank import Ranked, count_at_least, pool_of
from vectable.engine.search.reader import Reader, Reading
from vectable.engine.search.result import SearchResult
from vectable.engine.search.scan import matching
from vectable.errors import CursorExpired, MarkExpired
from vectable.interfaces import Noted, View

_QUICK_BYTES = 8 << 20
"""A fast scan reads so much in about half a millisecond."""
ATTEMPTS = 3
"""How often rows that moved on while they were read are read anew before the backend answers alone."""


class SimilarSearch:
    """Answers similarity queries of one database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._backend = reader.backend
        self.in_backend = BackendSearch(reader.backend)
        self._consistent = reader.backend.capabilities.snapshot != "none"
        self._proves = self._consistent and reader.backend.capabilities.proves_unchanged

    async def run(
        self,
        prepared: Prepared,
        target: Target,
        at_least: Mark | None,
        unlimited: bool = False,
        backend_plan: bool = False,
    ) -> SearchResult:
        """One page of hits; with `unlimited`, all of them. `backend_plan`: where the backend searches, its
        own account of that is told, too."""
        place = prepared.place()
        asked = Asked(prepared, target, place, unlimited, backend_plan)
        fallbacks: list[str] = []
        why = "" if prepared.by_score else "ordered by columns"
        if prepared.by_score and not unlimited:
            result = await self.unchanged(prepared, target)
            if result is not None:
                return result
        for _ in range(ATTEMPTS if prepared.by_score else 0):
            clock = Clock()
            async with self._read(prepared, target, at_least) as reading:
                await _check_pinned(place, reading.view)
                if reading.snapshot is None or reading.resident is None:
                    return await self.in_backend.run(reading.view, asked, reading.why, fallbacks)
                clock.lap("refresh")
                eligible = await self._eligible(prepared, reading, reading.snapshot)
                clock.lap("filter")
                result = await self._over_resident(
                    prepared,
                    target,
                    reading.view,
                    reading.resident,
                    reading.snapshot,
                    eligible,
                    span_of(prepared, target, place, eligible.count, unlimited),
                    clock,
                )
                if result is not None:
                    result.plan.fallbacks[:0] = fallbacks
                    return result
            why = "rows changed while they were read"
            fallbacks.append(why)
        async with self._backend.view(prepared.table, at_least) as view:
            await _check_pinned(place, view)
            return await self.in_backend.run(view, asked, why, fallbacks[:-1])

    def _read(
        self, prepared: Prepared, target: Target, at_least: Mark | None
    ) -> AbstractAsyncContextManager[Reading]:
        wanted = tuple(prepared.compiled.filter or ())
        return self._reader.read(prepared.table, target.version, target.stale, wanted, at_least)

    def held(self, prepared: Prepared, target: Target) -> tuple[Resident, Snapshot] | None:
        """The rows a first page can be searched over without looking at the backend first: held, and of a
        table that was last found still."""
        if prepared.cursor is not None or not prepared.by_score or not self._proves:
            return None
        if prepared.table.foreign is not None:
            return None  # what others own may have changed untold
        resident = self._reader.held(prepared.table, target.version, target.stale)
        if resident is None or resident.moving:
            return None
        snapshot = resident.snapshot
        if snapshot is None or not snapshot.has(prepared.compiled.filter):
            return None
        return resident, snapshot

    async def unchanged(
        self, prepared: Prepared, target: Target, noted: Noted | None = None, begin: Begin | None = None
    ) -> SearchResult | None:
        """The first page by the rows already held, proved by one statement, which also fetches what is not
        held of the hits: None where the table, or what was noted of the state store, has changed since, or
        where it takes a view to answer. `begin`: on a thread that is not the backend's loop's."""
        clock = Clock()
        table = prepared.table
        held = self.held(prepared, target)
        if held is None:
            return None
        resident, snapshot = held
        proved = ProvedRows(self._backend, prepared, snapshot, resident.recent, noted, begin)
        eligible = await self._by_columns(prepared, snapshot, begin)
        if eligible is None:
            return None
        async with proved:
            clock.lap("filter")
            span = span_of(prepared, target, None, eligible.count, False)
            quick = is_quick(prepared, target, resident, snapshot)
            answer = await self._answered(target, snapshot, resident, eligible, span, quick, begin)
            clock.lap("search")
            prepared.context.check_deadline()
            rows = await proved.rows(answer.ranked.keys[span.start : span.end])
        if rows is None:
            resident.moving = True
            return None
        clock.lap("fetch")
        self._reader.upkeep.after_search(resident, snapshot, target.column, table.indexes, eligible.kept)
        return page_of(prepared, target, snapshot, eligible, answer, span, rows, clock)

    async def _by_columns(
        self, prepared: Prepared, snapshot: Snapshot, begin: Begin | None = None
    ) -> Eligible | None:
        """The rows the filter keeps; None when only the backend knows."""
        compiled = prepared.compiled
        if compiled.everything:
            return Eligible(snapshot.live, snapshot.searchable, False)
        if compiled.filter is None:
            return None
        work = partial(snapshot.kept, prepared.where, compiled.names)
        here = begin is not None or snapshot.remembers(prepared.where)
        kept = work() if here else await self._reader.compute(work)
        return Eligible(kept.mask, kept.count, True, kept)

    async def _eligible(self, prepared: Prepared, reading: Reading, snapshot: Snapshot) -> Eligible:
        eligible = await self._by_columns(prepared, snapshot)
        if eligible is not None:
            return eligible
        mask = np.zeros(snapshot.size, np.bool_)
        stream = matching(self._backend, reading.view, replace(prepared, target=None))
        async with aclosing(stream) as parts:  # type: ignore[type-var]
            async for part in parts:
                found = (snapshot.find(part.batch.keys[i]) for i in part.rows)
                mask[[p for p in found if p >= 0]] = True
        return Eligible(mask, int(np.count_nonzero(mask)), True)

    async def _answered(
        self,
        target: Target,
        snapshot: Snapshot,
        resident: Resident,
        eligible: Eligible,
        span: Span,
        quick: bool = False,
        begin: Begin | None = None,
    ) -> Answer:
        held = Held(resident.structures, resident.refused, resident.codes)
        probe = Probe(target.vector, target.version.metric, self._reader.registry.library)
        work = partial(search_resident, snapshot, held, target, probe, eligible, span.k, span.after)
        return work() if begin is not None else await self._reader.compute(work, quick)

    async def _over_resident(
        self,
        prepared: Prepared,
        target: Target,
        view: View,
        resident: Resident,
        snapshot: Snapshot,
        eligible: Eligible,
        span: Span,
        clock: Clock,
    ) -> SearchResult | None:
        """The page; None when the rows were no longer as the snapshot has them."""
        answer = await self._answered(target, snapshot, resident, eligible, span)
        clock.lap("search")
        prepared.context.check_deadline()
        rows = await self._fetched(prepared, target, view, snapshot, answer.ranked, span.start, span.end)
        if rows is None:
            return None
        clock.lap("fetch")
        self._reader.upkeep.after_search(
            resident, snapshot, target.column, prepared.table.indexes, eligible.kept
        )
        return page_of(prepared, target, snapshot, eligible, answer, span, rows, clock)

    async def _fetched(
        self,
        prepared: Prepared,
        target: Target,
        view: View,
        snapshot: Snapshot,
        ranked: Ranked,
        start: int,
        end: int,
    ) -> list[Row] | None:
        keys = ranked.keys[start:end]
        selection = prepared.compiled.selection
        if not keys:
            return []
        # What others own may have changed untold: then a row is looked at again before it is a hit.
        if self._consistent and prepared.table.foreign is None:
            batch = await view.get(keys, selection.columns, selection.versions)
            return selection.rows(batch) if len(batch) == len(keys) else None
        columns = tuple(dict.fromkeys([*selection.columns, *prepared.compiled.where_columns]))
        versions = tuple(dict.fromkeys([*selection.versions, target.version.id]))
        batch = await view.get(keys, columns, versions)
        if len(batch) != len(keys):
            return None
        holds = row_test(prepared.where)
        vectors = snapshot.vectors(np.array(ranked.positions[start:end], np.int64))
        for i, cell in enumerate(batch.cells[target.version.id]):
            same = cell.servable(target.stale) and cell.vector == to_bytes(vectors[i])
            if not same or not holds({n: batch.columns[n][i] for n in prepared.compiled.where_columns}):
                return None
        return selection.rows(batch)

    async def count(self, prepared: Prepared, target: Target, at_least: Mark | None) -> int:
        """How many rows match, those under the threshold left out."""
        async with self._read(prepared, target, at_least) as reading:
            snapshot = reading.snapshot
            if snapshot is not None:
                eligible = await self._eligible(prepared, reading, snapshot)
                if target.threshold is None:
                    return eligible.count
                threshold = target.threshold
                probe = Probe(target.vector, target.version.metric, self._reader.registry.library)

                def counted() -> int:
                    pool = pool_of(snapshot, probe, eligible.mask, eligible.count, eligible.kept)
                    return count_at_least(snapshot, probe, pool, threshold)

                return await self._reader.compute(counted)
        async with self._backend.view(prepared.table, at_least) as view:
            return await scan_count(self._backend, view, prepared)


def is_quick(prepared: Prepared, target: Target, resident: Resident, snapshot: Snapshot) -> bool:
    """Whether a small table's rows answer it, a fast scan of about half a millisecond, or fewer rows by a
    filter that is known."""
    if snapshot.size <= FLAT_ROWS:
        return True
    scan = resident.structures.get(FAST_SCAN)
    if scan is None or scan.digest != snapshot.base.digest or scan.index.nbytes > _QUICK_BYTES:
        return False
    return not target.exact and (prepared.compiled.everything or snapshot.remembers(prepared.where))


async def _check_pinned(place: Place | None, view: View) -> None:
    """Raises CursorExpired when the table is no longer as it was when the cursor was made."""
    if place is None or place.mark is None or place.mark == view.mark.value:
        return
    try:
        async for keys in view.changes(Mark(place.mark)):
            if len(keys):
                break
        else:
            return
    except MarkExpired:
        pass
    raise CursorExpired("the table has changed since the cursor was made", hint="start the query again")
