"""Exact nearest neighbours by the core's own distances: every servable vector is compared, memory stays
flat."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

import numpy as np

from vectable.backends.postgres.filter import Filter
from vectable.backends.postgres.layout import Layout, cells_name, gone
from vectable.backends.postgres.select import SqlRow
from vectable.core.key import KeyBytes
from vectable.core.schema import Version
from vectable.core.vectors import Vector, distances, stack
from vectable.interfaces import Candidates

_PAGE_BYTES = 4 << 20


class Reader(Protocol):
    """What runs statements."""

    def pages(
        self, sql: str, params: Sequence[Any] = (), size: int = ...
    ) -> AsyncGenerator[list[SqlRow], None]: ...


def servable_sql(layout: Layout, version: Version) -> str:
    """The condition for cells whose vector search may use."""
    if version.id not in layout.place.versions:
        raise gone("a version")
    cells = cells_name(version.id)
    text = f"{cells}.want IS NOT NULL AND {cells}.vector IS NOT NULL"
    return text if _serves_stale(layout, version) else f"{text} AND {cells}.have = {cells}.want"


async def nearest(
    reader: Reader, layout: Layout, version: Version, vector: Vector, k: int, condition: Filter
) -> Candidates:
    """The `k` rows nearest to `vector` and all that tie with the last of them, nearest first, then by key."""
    cells = cells_name(version.id)
    sql = (
        f"SELECT t.key, {cells}.vector {layout.joined([version.id, *condition.versions])}"
        f" WHERE ({condition.text}) AND {servable_sql(layout, version)}"
    )
    size = max(1, min(4_096, _PAGE_BYTES // (4 * version.dimensions)))
    best: list[tuple[float, KeyBytes]] = []
    bound = np.inf
    async for page in reader.pages(sql, condition.params, size):
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
