"""How much of the truth an index in the backend finds: measured by the table's own rows, overall and under
filters over its own columns, through the same calls that searches make."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vectable.core.evaluate import row_test
from vectable.core.predicate import TRUE, Predicate, bind, columns_of, parse_filter
from vectable.core.rows import RecordBatch
from vectable.core.schema import ORDERED_TYPES, Column, Index, Metric, Serving, Table, Version
from vectable.core.vectors import Matrix, distances, stack
from vectable.engine.search.by_index import SHOULD_FIND
from vectable.engine.search.choose import FEW_ROWS, FEW_SHARE
from vectable.engine.search.indexing import IndexBuilder, IndexedView
from vectable.errors import VectableError
from vectable.interfaces import Backend, Pushed, View

QUERIES = 50
K, DEEP_K = 10, 1_000
DEEP_EVERY = 5
"""Of so many queries one asks for DEEP_K hits."""
_SAMPLE = 2_000
_COLUMNS = 1
_SEED = 97
_SLACK = 1e-6
_NO_BETTER = 0.002
"""What two more steps of effort have to add, or no more are tried."""
_QUERIES_PER_VIEW = 10
_NOTHING = Serving(
    recall=0,
    effort=1,
    candidates=K,
    filtered=0,
    filtered_effort=1,
    filtered_candidates=K,
    deep=0,
    rows=0,
)
Stop = Callable[[], None]
"""Raises when the measuring is to end."""


@dataclass(slots=True)
class _Filter:
    where: Predicate
    count: int = 0
    nearest: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    """By k: distances of the k nearest rows to each query asked for as many, in no order."""

    def add(self, apart: NDArray[np.float64]) -> None:
        """More rows, as distances (queries, rows)."""
        self.count += apart.shape[1]
        for k, some in ((K, apart), (DEEP_K, apart[::DEEP_EVERY])):
            known = np.concatenate([self.nearest[k], some], axis=1) if k in self.nearest else some
            if known.shape[1] > k:
                known = np.partition(known, k - 1, axis=1)[:, :k]
            self.nearest[k] = known

    def farthest(self, query: int, k: int) -> float:
        """Distance of the k-th nearest row, or of the last there is."""
        return float(self.nearest[k][query // DEEP_EVERY if k == DEEP_K else query].max())


async def measure(backend: Backend, table: Table, column: Column, index: Index, stop: Stop) -> Serving:
    """The least work whose recall@10 reaches the goal; when none does, the best there is. Over no rows, no
    recall: there is nothing to measure."""
    version, builder = column.version, cast(IndexBuilder, backend)
    async with backend.view(table) as view:
        queries, filters = await _questions(backend, view, table, column, version)
        if not len(queries):
            return _NOTHING
        rows = await _truths(backend, view, table, column, queries, filters, stop)
    few = FEW_ROWS + FEW_SHARE * rows
    plain, under = filters[0], [f for f in filters[1:] if f.count > few]
    trial = _Trial(backend, table, version, index, queries, stop)
    options = builder.efforts(index, rows)
    recall, effort, candidates = await trial.least([plain], options)
    filtered, filtered_effort, filtered_candidates = 0.0, effort, candidates
    if under:
        filtered, filtered_effort, filtered_candidates = await trial.least(under, options)
    deepest = [(plain, effort, candidates), *((f, filtered_effort, filtered_candidates) for f in under)]
    deep = [
        await trial.recall(f, e, max(DEEP_K, c * DEEP_K // 20), DEEP_K, trial.some)
        for f, e, c in deepest
        if f.count > 4 * DEEP_K
    ]
    return Serving(
        recall=recall,
        effort=effort,
        candidates=candidates,
        filtered=filtered,
        filtered_effort=filtered_effort,
        filtered_candidates=filtered_candidates,
        deep=min(deep, default=0.0),
        rows=rows,
    )


class _Trial:
    """Asks the index, and counts what it finds."""

    def __init__(
        self, backend: Backend, table: Table, version: Version, index: Index, queries: Matrix, stop: Stop
    ) -> None:
        self._backend = backend
        self._table = table
        self._version = version
        self._index = index
        self._queries = queries
        self._stop = stop
        self.some = range(0, len(queries), DEEP_EVERY)
        """The queries that ask for many hits."""

    async def least(
        self, filters: Sequence[_Filter], options: Sequence[tuple[int, int]]
    ) -> tuple[float, int, int]:
        """(recall under the worst filter, effort, candidates) of the first option that is good enough, else
        of the least that is about as good as any."""
        tried: list[tuple[float, int, int]] = []
        for effort, candidates in options:
            every = range(len(self._queries))
            found = [await self.recall(f, effort, candidates, K, every) for f in filters]
            tried.append((min(found), effort, candidates))
            if min(found) >= SHOULD_FIND:
                return tried[-1]
            if len(tried) > 2 and tried[-1][0] <= tried[-3][0] + _NO_BETTER:
                break
        best = max(tried)[0]
        return next(each for each in tried if each[0] >= best - _NO_BETTER)

    async def recall(self, filter_: _Filter, effort: int, candidates: int, k: int, queries: range) -> float:
        """The mean recall@k over these queries."""
        pushed = self._backend.push(self._table, filter_.where)
        shares: list[float] = []
        for at in range(0, len(queries), _QUERIES_PER_VIEW):
            self._stop()
            # Briefly, one after the other: an open view keeps changes of the definition waiting.
            async with self._backend.view(self._table) as view:
                for query in queries[at : at + _QUERIES_PER_VIEW]:
                    share = await self._share(view, pushed, filter_, query, effort, candidates, k)
                    shares.append(share)
        return float(np.mean(shares))

    async def _share(
        self, view: View, pushed: Pushed, filter_: _Filter, query: int, effort: int, wanted: int, k: int
    ) -> float:
        vector, version = self._queries[query], self._version
        keys = await cast(IndexedView, view).nominate(self._index, effort, vector, wanted, pushed)
        batch = await view.get(list(keys), (), (version.id,))
        found = [c.vector for c in batch.cells[version.id] if c.vector is not None]
        apart = distances(vector, stack(found, version.dimensions), version.metric)
        bound = filter_.farthest(query, k)
        hits = int(np.count_nonzero(apart <= bound + _SLACK * (1 + abs(bound))))
        # With a residual, some of what is nominated does not match: that costs hits in a search, too.
        return min(hits, k) / min(k, filter_.count)


async def _questions(
    backend: Backend, view: View, table: Table, column: Column, version: Version
) -> tuple[Matrix, list[_Filter]]:
    """Vectors beside those of rows chosen at random, and filters: none, and two over each of some columns."""
    chosen = _columns(table)
    sample: list[tuple[bytes, Mapping[str, Any]]] = []
    rng, seen = random.Random(_SEED), 0  # noqa: S311 - a sample, no secret
    names = tuple(c.name for c in chosen)
    scan = view.scan(backend.push(table, TRUE), names)
    async with aclosing(scan) as batches:  # type: ignore[type-var]
        async for batch in batches:
            for i, key in enumerate(batch.keys):
                place = seen if seen < _SAMPLE else rng.randrange(seen + 1)
                seen += 1
                if place >= _SAMPLE:
                    continue
                row = key, {n: batch.columns[n][i] for n in names}
                if place < len(sample):
                    sample[place] = row
                else:
                    sample.append(row)
    filters = [_Filter(TRUE)]
    for asked in chosen:
        values = sorted(v for _, row in sample if (v := row[asked.name]) is not None)
        filters += [_Filter(where) for where in _ranges(table, asked, values)]
    keys = [key for key, _ in rng.sample(sample, min(2 * QUERIES, len(sample)))]
    batch = await view.get(keys, (), (version.id,))
    rows = [c.vector for c in batch.cells[version.id] if c.vector and c.servable(column.serves_stale)]
    return _beside(stack(rows[:QUERIES], version.dimensions)), filters


def _columns(table: Table) -> list[Column]:
    """The key's first column, which often tells when a row came, and another with an order."""
    key = table.key_columns[0]
    others = [c for c in table.stored_columns if c.type in ORDERED_TYPES and c.id != key.id]
    return [key, *others[:_COLUMNS]]


def _ranges(table: Table, column: Column, values: Sequence[Any]) -> list[Predicate]:
    """About the upper half, and a tenth from the middle."""
    n, found = len(values), []
    if not n or values[0] == values[-1]:
        return []
    half = {"column": column.name, "operator": ">=", "value": values[n // 2]}
    tenth = {"column": column.name, "operator": "<", "value": values[min(n - 1, n // 2 + n // 10)]}
    for filter_ in (half, [half, tenth]):
        # Not every value that is stored can be written in a filter.
        with suppress(VectableError):
            found.append(bind(parse_filter(filter_), table))
    return found


def _beside(matrix: Matrix) -> Matrix:
    """A query is seldom the copy of a row."""
    rng = np.random.default_rng(_SEED)
    offset = rng.standard_normal(matrix.shape)
    offset /= np.maximum(np.linalg.norm(offset, axis=1, keepdims=True), 1e-30)
    lengths = np.linalg.norm(matrix.astype(np.float64), axis=1, keepdims=True)
    return np.ascontiguousarray(matrix + 0.1 * lengths * offset, np.float32)


async def _truths(
    backend: Backend,
    view: View,
    table: Table,
    column: Column,
    queries: Matrix,
    filters: Sequence[_Filter],
    stop: Stop,
) -> int:
    """Fills the filters with the distances of the nearest rows; how many rows there are."""
    version, rows = column.version, 0
    tests = [row_test(f.where) for f in filters]
    names = tuple(sorted({n for f in filters for n in columns_of(f.where)}))
    scan = view.scan(backend.push(table, TRUE), names, (version.id,))
    async with aclosing(scan) as batches:  # type: ignore[type-var]
        async for batch in batches:
            stop()
            cells = batch.cells[version.id]
            kept = [i for i in range(len(batch)) if cells[i].servable(column.serves_stale)]
            if not kept:
                continue
            rows += len(kept)
            matrix = stack([cells[i].vector or b"" for i in kept], version.dimensions)
            apart = _apart(queries, matrix, version.metric)
            for number, (filter_, test) in enumerate(zip(filters, tests, strict=True)):
                holds = [True] * len(kept) if number == 0 else [test(_row(batch, names, i)) for i in kept]
                filter_.add(apart[:, np.array(holds, np.bool_)])
    return rows


def _row(batch: RecordBatch, names: Sequence[str], at: int) -> dict[str, Any]:
    return {name: batch.columns[name][at] for name in names}


def _apart(queries: Matrix, matrix: Matrix, metric: Metric) -> NDArray[np.float64]:
    """Distances (queries, rows)."""
    left, right = queries.astype(np.float64), matrix.astype(np.float64)
    products = left @ right.T
    if metric is Metric.INNER_PRODUCT:
        return np.asarray(-products)
    squares = np.add.outer if metric is Metric.EUCLIDEAN else np.multiply.outer
    both = squares(np.einsum("ij,ij->i", left, left), np.einsum("ij,ij->i", right, right))
    if metric is Metric.EUCLIDEAN:
        return np.asarray(np.sqrt(np.maximum(both - 2 * products, 0.0)))
    return np.asarray(1.0 - products / np.sqrt(np.maximum(both, 1e-300)))
