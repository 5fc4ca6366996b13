"""Exact nearest neighbours straight from the file: every servable vector is compared, memory stays flat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from vectable.backends.sqlite.filter import Filter
from vectable.backends.sqlite.layout import Layout, cells_name, gone
from vectable.backends.sqlite.select import SqlRow, joins
from vectable.core.key import KeyBytes
from vectable.core.schema import Version
from vectable.core.vectors import Vector, distances, stack
from vectable.interfaces import Candidates

_PAGE_BYTES = 4 << 20


class Reader(Protocol):
    """What runs statements."""

    def pages(self, sql: str, params: Sequence[Any] = (), size: int = ...) -> Iterator[list[SqlRow]]: ...


def nearest(
    reader: Reader, layout: Layout, version: Version, vector: Vector, k: int, condition: Filter
) -> Candidates:
    """The `k` rows nearest to `vector` and all that tie with the last of them, nearest first, then by key."""
    cells = cells_name(version.id)
    servable = f"{cells}.want IS NOT NULL AND {cells}.vector IS NOT NULL"
    if not _serves_stale(layout, version):
        servable += f" AND {cells}.have = {cells}.want"
    tables = joins(layout, [version.id, *condition.versions])
    sql = f"SELECT t.key, {cells}.vector {tables} WHERE ({condition.text}) AND {servable}"
    size = max(1, min(4_096, _PAGE_BYTES // (4 * version.dimensions)))
    best: list[tuple[float, KeyBytes]] = []
    bound = np.inf
    for page in reader.pages(sql, condition.params, size):
        matrix = stack([row[1] for row in page], version.dimensions)
        apart = distances(vector, matrix, version.metric)
        near = np.flatnonzero(apart <= bound)
        best += [(float(apart[i]), page[i][0]) for i in near]
        if len(best) >= 2 * k:
            best, bound = _trimmed(best, k)
    best, _ = _trimmed(best, k)
    return Candidates([key for _, key in best], complete=True)


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


def _serves_stale(layout: Layout, version: Version) -> bool:
    for column, live in layout.table.versions:
        if live.id == version.id:
            return column.serves_stale
    raise gone("a version")
