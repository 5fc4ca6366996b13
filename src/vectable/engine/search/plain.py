"""Queries without `similar`: a scan in order, page by page."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing

from vectable.core.plan import Plan
from vectable.core.rows import RecordBatch
from vectable.engine.search.cursor import Elided, Place, encode_cursor
from vectable.engine.search.direct import DirectReader
from vectable.engine.search.prepare import Prepared, described, is_empty
from vectable.engine.search.result import SearchResult
from vectable.engine.search.scan import completed, joined, matching, only
from vectable.interfaces import Backend, Noted, Position, View


async def scan_page(
    backend: Backend, view: View, prepared: Prepared, place: Place | None, limit: int, offset: int
) -> SearchResult:
    """`limit` matching rows in order, behind `place` and `offset` more."""
    started = time.perf_counter()
    place = await completed(place, view, prepared)
    selection, order = prepared.compiled.selection, prepared.compiled.order
    columns = _columns(prepared)
    after = None if place is None else Position(place.values, place.key)
    parts: list[RecordBatch] = []
    skip, left, examined, more = offset, limit, 0, False
    # One row beyond the page tells whether there is a next one.
    stream = matching(backend, view, prepared, columns, selection.versions, order, after, offset + limit + 1)
    if not is_empty(prepared.where):
        async with aclosing(stream) as found:  # type: ignore[type-var]
            async for part in found:
                examined += len(part.batch)
                rows = part.rows[skip:]
                skip -= len(part.rows) - len(rows)
                more = len(rows) > left
                taken = rows[:left]
                left -= len(taken)
                if len(taken) == len(part.batch):
                    parts.append(only(part.batch, columns))
                elif taken:
                    parts.append(only(part.batch, columns).take(taken))
                if more:
                    break
    batch = parts[0] if len(parts) == 1 else joined(parts, columns, selection.versions)
    return _page(backend, prepared, batch, more, examined, started)


async def direct_page(backend: DirectReader, prepared: Prepared, noted: Noted) -> SearchResult | None:
    """The page by one call, without a view; None where it takes one."""
    started = time.perf_counter()
    place, limit, offset = prepared.place(), prepared.limit, prepared.offset
    pushed = backend.push(prepared.table, prepared.where)
    unsaid = place is not None and any(isinstance(value, Elided) for value in place.values)
    if unsaid or pushed.residual is not None or is_empty(prepared.where):
        return None
    selection, order = prepared.compiled.selection, prepared.compiled.order
    found = await backend.page(
        prepared.table,
        pushed,
        _columns(prepared),
        selection.versions,
        order,
        None if place is None else Position(place.values, place.key),
        offset + limit + 1,
        noted,
    )
    if found is None:
        return None
    batch = found if len(found) <= limit and not offset else found.take(range(len(found))[offset:][:limit])
    return _page(backend, prepared, batch, len(found) > offset + limit, len(found), started)


def _columns(prepared: Prepared) -> tuple[str, ...]:
    compiled = prepared.compiled
    return tuple(dict.fromkeys([*compiled.selection.columns, *(t.column for t in compiled.order)]))


def _page(
    backend: Backend, prepared: Prepared, batch: RecordBatch, more: bool, examined: int, started: float
) -> SearchResult:
    selection = prepared.compiled.selection
    next_cursor = _next(prepared, batch) if more and len(batch) else None
    rows = selection.rows(only(batch, selection.columns))
    plan = _plan(backend, prepared, examined, (time.perf_counter() - started) * 1e3)
    return SearchResult(batch.keys, rows, None, None, plan, None, next_cursor)


async def direct_count(backend: DirectReader, prepared: Prepared, noted: Noted) -> int | None:
    """How many rows match, by one call, without a view; None where it takes one."""
    pushed = backend.push(prepared.table, prepared.where)
    if pushed.residual is not None or is_empty(prepared.where):
        return None
    return await backend.count(prepared.table, pushed, noted)


def last_place(prepared: Prepared, batch: RecordBatch) -> Place:
    """Where the page ends."""
    values = tuple(batch.columns[t.column][-1] for t in prepared.compiled.order)
    return Place(values, batch.keys[-1])


def _next(prepared: Prepared, batch: RecordBatch) -> Callable[[], str]:
    place = last_place(prepared, batch)
    return lambda: encode_cursor(place, prepared.fingerprint())


async def scan_count(backend: Backend, view: View, prepared: Prepared) -> int:
    """How many rows match."""
    if is_empty(prepared.where):
        return 0
    if prepared.target is None:
        pushed = backend.push(prepared.table, prepared.where)
        if pushed.residual is None:
            return await view.count(pushed)
    count = 0
    stream = matching(backend, view, prepared)
    async with aclosing(stream) as parts:  # type: ignore[type-var]
        async for part in parts:
            count += len(part.rows)
    return count


def _plan(backend: Backend, prepared: Prepared, examined: int, total: float) -> Plan:
    pushed = backend.push(prepared.table, prepared.where)
    why = "rows are read in order" if prepared.compiled.order else "rows are read in key order"
    if is_empty(prepared.where):
        why = "the filter holds for no row"
    return Plan(
        path="scan",
        why=why,
        exact=True,
        rows_examined=examined,
        filter_pushed=pushed.text or described(prepared.where),
        filter_residual=described(pushed.residual),
        times_ms={"fetch": round(total, 4), "total": round(total, 4)},
    )
