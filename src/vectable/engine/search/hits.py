"""Hits read from the backend: the best by score, or all that match in an order of columns."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from vectable.core.evaluate import order_key
from vectable.core.key import KeyBytes
from vectable.core.query import SCORE
from vectable.core.rows import RecordBatch
from vectable.engine.search.cursor import Place
from vectable.engine.search.prepare import Prepared, Target
from vectable.engine.search.scan import Matching, matching, residual_test, score_rows, with_residual
from vectable.engine.search.selection import Selection
from vectable.interfaces import Backend, Position, View

_GET = 1_000


@dataclass(frozen=True, slots=True)
class Hit:
    """One matching row. `values`: of the order's terms."""

    key: KeyBytes
    score: float
    distance: float
    batch: RecordBatch
    row: int
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """Hits in final order; `examined` rows were read for them."""

    hits: Sequence[Hit]
    examined: int


def collected(hits: Sequence[Hit], selection: Selection) -> RecordBatch:
    """The hits' rows as one batch of what is selected."""
    return RecordBatch(
        [h.key for h in hits],
        {n: [h.batch.columns[n][h.row] for h in hits] for n in selection.columns},
        [None] * len(hits),
        {v: [h.batch.cells[v][h.row] for h in hits] for v in selection.versions},
    )


def _hits(found: Matching) -> list[Hit]:
    keys = found.batch.keys
    return [
        Hit(keys[i], score, apart, found.batch, i)
        for i, score, apart in zip(found.rows, found.scores, found.distances, strict=True)
    ]


def _rank(hit: Hit) -> tuple[float, KeyBytes]:
    return (-hit.score, hit.key)


async def best_hits(
    backend: Backend, view: View, prepared: Prepared, k: int, after: Place | None = None
) -> Found:
    """The best `k` by score, exact: from the backend's candidates where they prove enough, else by a scan."""
    if after is None:
        found = await _nominated(backend, view, prepared, k)
        if found is not None:
            return found
    return await _scanned(backend, view, prepared, k, after)


async def _scanned(backend: Backend, view: View, prepared: Prepared, k: int, after: Place | None) -> Found:
    kept: dict[KeyBytes, Hit] = {}
    examined = 0
    selection = prepared.compiled.selection
    start = None if after is None else (-after.values[0], after.key)
    stream = matching(backend, view, prepared, selection.columns, selection.versions)
    async with aclosing(stream) as parts:  # type: ignore[type-var]
        async for part in parts:
            examined += len(part.batch)
            for hit in _hits(part):
                if start is None or _rank(hit) > start:
                    kept[hit.key] = hit
            if len(kept) > 4 * k + _GET:
                kept = {h.key: h for h in heapq.nsmallest(k, kept.values(), key=_rank)}
    return Found(heapq.nsmallest(k, kept.values(), key=_rank), examined)


async def _nominated(backend: Backend, view: View, prepared: Prepared, k: int) -> Found | None:
    """The best of the backend's candidates, once none it left out can be better; None when it cannot say."""
    target = prepared.target
    if target is None or k == 0:
        return None
    pushed = backend.push(prepared.table, prepared.where)
    test = residual_test(pushed.residual)
    selection = prepared.compiled.selection
    columns = with_residual(selection.columns, pushed.residual)
    versions = tuple(dict.fromkeys([*selection.versions, target.version.id]))
    seen: dict[KeyBytes, None] = {}
    scored: list[float] = []
    hits: list[Hit] = []
    asked = k + max(k // 4, 16)
    while True:
        candidates = await view.nearest(target.version, target.vector, asked, pushed)
        if not candidates.complete:
            return None
        fresh = [key for key in dict.fromkeys(candidates.keys) if key not in seen]
        seen.update(dict.fromkeys(fresh))
        for at in range(0, len(fresh), _GET):
            batch = await view.get(fresh[at : at + _GET], columns, versions)
            everything = score_rows(batch, range(len(batch)), _any(target))
            scored += everything.scores
            hits += _hits(score_rows(batch, test(batch), target))
        hits.sort(key=_rank)
        if len(scored) < asked or not fresh:
            return Found(hits[:k], len(seen))
        # No row left out is better than the last of as many as were asked for.
        bound = sorted(scored, reverse=True)[asked - 1]
        if target.threshold is not None and bound < target.threshold:
            return Found(hits[:k], len(seen))
        if len(hits) >= k and hits[k - 1].score > bound:
            return Found(hits[:k], len(seen))
        asked *= 4


def _any(target: Target) -> Target:
    return Target(target.column, target.version, target.vector, None, target.exact, target.stale)


async def ordered_hits(
    backend: Backend, view: View, prepared: Prepared, wanted: int | None, after: Place | None
) -> Found:
    """Matching rows of a similarity query in an order of columns (the score among them), at most `wanted`."""
    order = prepared.compiled.order
    selection = prepared.compiled.selection
    names = tuple(t.column for t in order if t.column != SCORE)
    columns = tuple(dict.fromkeys([*selection.columns, *names]))
    scored = any(t.column == SCORE for t in order)
    position = None if scored or after is None else Position(after.values, after.key)
    stream = matching(backend, view, prepared, columns, selection.versions, () if scored else order, position)
    hits: dict[KeyBytes, Hit] = {}
    examined = 0
    async with aclosing(stream) as parts:  # type: ignore[type-var]
        async for part in parts:
            examined += len(part.batch)
            for hit in _hits(part):
                values = tuple(
                    hit.score if t.column == SCORE else hit.batch.columns[t.column][hit.row] for t in order
                )
                hits[hit.key] = Hit(hit.key, hit.score, hit.distance, hit.batch, hit.row, values)
            if not scored and wanted is not None and len(hits) >= wanted:
                break
    if not scored:
        return Found(list(hits.values())[:wanted], examined)
    start = None if after is None else order_key(after.values, order, after.key)
    placed = [(order_key(h.values, order, h.key), h) for h in hits.values()]
    if start is not None:
        placed = [p for p in placed if p[0] > start]
    placed.sort(key=lambda p: p[0])
    return Found([h for _, h in placed[:wanted]], examined)
