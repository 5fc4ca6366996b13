"""Orders and distances that engines do not have as we do: rows compared here, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectable.backends.refusals import gone
from vectable.core.evaluate import order_key
from vectable.core.key import KeyBytes
from vectable.core.predicate import resolve
from vectable.core.query import OrderTerm
from vectable.core.rows import RecordBatch
from vectable.core.schema import ORDERED_TYPES, Table, Version
from vectable.core.vectors import Vector, distances, stack
from vectable.interfaces import Candidates, Position

_PAGE_BYTES = 4 << 20


def native(table: Table, order: Sequence[OrderTerm]) -> bool:
    """Whether SQL engines order these terms as we do. They do not for JSON, lists, images and vectors."""
    targets = [resolve(term.column, table) for term in order]
    return all(t.state or (t.type in ORDERED_TYPES and not t.path) for t in targets)


class Placed:
    """Keys with what they are sorted by, in memory."""

    def __init__(self, order: Sequence[OrderTerm]) -> None:
        self._order = order
        self.columns = [term.column for term in order]
        """What a batch shown must hold."""
        self._found: list[tuple[Any, ...]] = []

    def add(self, batch: RecordBatch) -> None:
        """Rows to be sorted."""
        values = [batch.columns[name] for name in self.columns]
        self._found += [
            order_key([v[i] for v in values], self._order, key) for i, key in enumerate(batch.keys)
        ]

    def keys(self, after: Position | None, limit: int | None) -> list[KeyBytes]:
        """Those behind `after`, in order, at most `limit`."""
        self._found.sort()
        found = self._found
        if after is not None:
            start = order_key(after.values, self._order, after.key)
            found = [each for each in found if each > start]
        return [each[-1] for each in found[:limit]]


class Nearest:
    """The `k` nearest of the vectors shown, and all that tie with the last of them. Holds few at a time."""

    def __init__(self, version: Version, vector: Vector, k: int) -> None:
        self._version = version
        self._vector = vector
        self._k = k
        self._best: list[tuple[float, KeyBytes]] = []
        self._bound = np.inf
        self.page = max(1, min(4_096, _PAGE_BYTES // (4 * version.dimensions)))
        """As many rows are well shown at a time."""

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Rows that begin with key and stored vector."""
        apart = apart_of(rows, self._version, self._vector)
        near = np.flatnonzero(apart <= self._bound)
        self._best += [(float(apart[i]), rows[i][0]) for i in near.tolist()]
        if len(self._best) >= 2 * self._k:
            self._best, self._bound = _trimmed(self._best, self._k)

    def candidates(self) -> Candidates:
        """They, nearest first, then by key."""
        return nearest_of(self._best, self._k)


def apart_of(rows: Sequence[Sequence[Any]], version: Version, vector: Vector) -> NDArray[np.float64]:
    """float64[len(rows)]: how far from `vector` are rows that begin with key and stored vector."""
    return distances(vector, stack([row[1] for row in rows], version.dimensions), version.metric)


def nearest_of(found: Iterable[tuple[float, KeyBytes]], k: int) -> Candidates:
    """The `k` nearest of (distance, key) and all that tie with the last of them, nearest first, then by
    key."""
    best, _ = _trimmed(list(found), k)
    return Candidates([key for _, key in best], complete=True)


def serves_stale(table: Table, version: Version) -> bool:
    """Whether the version's column serves vectors of former contents. Raises StaleGeneration for a version
    the table has not."""
    for column, live in table.versions:
        if live.id == version.id:
            return column.serves_stale
    raise gone("a version")


def _trimmed(best: list[tuple[float, KeyBytes]], k: int) -> tuple[list[tuple[float, KeyBytes]], float]:
    """Sorted, without what is farther than the k-th, and how far that is."""
    best.sort()
    if k <= 0 or len(best) <= k:
        return (best if k > 0 else []), float("inf")
    bound = best[k - 1][0]
    end = k
    while end < len(best) and best[end][0] == bound:
        end += 1
    return best[:end], bound
