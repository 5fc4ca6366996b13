"""Reading matching rows from a view: what the backend lets through, checked against the filter's residual
and, for a similarity query, scored from the stored vectors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vectable.core.evaluate import row_test
from vectable.core.predicate import Predicate, columns_of
from vectable.core.query import OrderTerm
from vectable.core.rows import RecordBatch
from vectable.core.vectors import distances, score_of, stack
from vectable.engine.search.cursor import Elided, Place
from vectable.engine.search.prepare import Prepared, Target
from vectable.errors import CursorExpired
from vectable.interfaces import Backend, Position, Pushed, View


@dataclass(frozen=True, slots=True)
class Matching:
    """Rows of one batch that match, by position in it; `scores` and `distances` beside them for a target."""

    batch: RecordBatch
    rows: Sequence[int]
    scores: Sequence[float]
    distances: Sequence[float]


def with_residual(columns: Sequence[str], residual: Predicate | None) -> tuple[str, ...]:
    """The columns to fetch: those asked for and those the residual reads."""
    if residual is None:
        return tuple(columns)
    return tuple(dict.fromkeys([*columns, *sorted(columns_of(residual))]))


def residual_test(residual: Predicate | None) -> Callable[[RecordBatch], list[int]]:
    """From a batch to the positions of the rows the residual holds for."""
    if residual is None:
        return lambda batch: list(range(len(batch)))
    test, names = row_test(residual), sorted(columns_of(residual))

    def passing(batch: RecordBatch) -> list[int]:
        columns = [batch.columns[n] for n in names]
        return [i for i in range(len(batch)) if test({n: c[i] for n, c in zip(names, columns, strict=True)})]

    return passing


def score_rows(batch: RecordBatch, rows: Sequence[int], target: Target) -> Matching:
    """Of `rows`, those with a servable vector and at least the threshold's score, scored."""
    cells = batch.cells[target.version.id]
    kept = [i for i in rows if cells[i].vector is not None and cells[i].servable(target.stale)]
    matrix = stack([cells[i].vector or b"" for i in kept], target.version.dimensions)
    apart = distances(target.vector, matrix, target.version.metric)
    scores = score_of(apart, target.version.metric)
    if target.threshold is not None:
        passing = np.flatnonzero(scores >= target.threshold).tolist()
        return Matching(batch, [kept[i] for i in passing], scores[passing].tolist(), apart[passing].tolist())
    return Matching(batch, kept, scores.tolist(), apart.tolist())


async def matching(
    backend: Backend,
    view: View,
    prepared: Prepared,
    columns: Sequence[str] = (),
    versions: Sequence[str] = (),
    order: Sequence[OrderTerm] = (),
    after: Position | None = None,
    limit: int | None = None,
) -> AsyncIterator[Matching]:
    """Every matching row in order. `limit` is what the caller will take: the backend is told only when every
    row it lets through is a row that matches."""
    pushed: Pushed = backend.push(prepared.table, prepared.where)
    target = prepared.target
    test = residual_test(pushed.residual)
    fetched = with_residual(columns, pushed.residual)
    if target is not None:
        versions = tuple(dict.fromkeys([*versions, target.version.id]))
    enough = limit if target is None and pushed.residual is None else None
    scan = view.scan(pushed, fetched, versions, order, after, enough)
    async with aclosing(scan) as batches:  # type: ignore[type-var]
        async for batch in batches:
            prepared.context.check_deadline()
            rows = test(batch)
            if target is None:
                yield Matching(batch, rows, (), ())
            else:
                yield score_rows(batch, rows, target)


async def completed(place: Place | None, view: View, prepared: Prepared) -> Place | None:
    """`place` with the texts it was too short for, read from its row again. Raises CursorExpired when that
    row has gone or has changed."""
    if place is None or not any(isinstance(v, Elided) for v in place.values):
        return place
    terms = list(zip(prepared.compiled.order, place.values, strict=True))
    batch = await view.get([place.key], tuple(t.column for t, v in terms if isinstance(v, Elided)))
    values: list[Any] = []
    for term, value in terms:
        now = batch.columns[term.column][0] if isinstance(value, Elided) and len(batch) else value
        if isinstance(value, Elided) and (not isinstance(now, str) or Elided.of(now) != value):
            raise CursorExpired("the row the cursor stands on has changed", hint="start the query again")
        values.append(now)
    return replace(place, values=tuple(values))


def only(batch: RecordBatch, names: Sequence[str]) -> RecordBatch:
    """The batch without columns that were fetched for the residual alone."""
    if len(batch.columns) == len(names):
        return batch
    kept: Mapping[str, Sequence[Any]] = {n: batch.columns[n] for n in names}
    return RecordBatch(batch.keys, kept, batch.revisions, batch.cells)


def joined(parts: Sequence[RecordBatch], columns: Sequence[str], versions: Sequence[str]) -> RecordBatch:
    """Several batches as one."""
    return RecordBatch(
        [k for p in parts for k in p.keys],
        {n: [v for p in parts for v in p.columns[n]] for n in columns},
        [r for p in parts for r in p.revisions],
        {n: [c for p in parts for c in p.cells[n]] for n in versions},
    )
