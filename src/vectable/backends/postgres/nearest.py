"""Exact nearest neighbours by the core's own distances. The server sorts by its float32 distances; rows and a
margin are proof enough, or more rows are asked for, and in the end every vector is compared here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import numpy as np

from vectable.backends.compared import Nearest, apart_of, nearest_of, serves_stale
from vectable.backends.compile.filter import Filter
from vectable.backends.postgres.layout import Layout, cells_name
from vectable.backends.postgres.margin import LONGEST, OPERATORS, SHORTEST, Margin, asked
from vectable.backends.postgres.select import SqlRow
from vectable.backends.refusals import gone
from vectable.core.schema import Metric, Version
from vectable.core.vectors import Vector, to_bytes
from vectable.drivers.postgres import ours
from vectable.interfaces import Candidates

_MOST_BYTES = 32 << 20
_SPARE, _GROWTH, _ATTEMPTS = 100, 8, 2
"""Where many rows are about equally near, a few more prove what another scan would have to."""
UNUSUAL = f"NOT (vector <#> vector BETWEEN {-(LONGEST**2)!r} AND {-(SHORTEST**2)!r})"
"""SQL: vectors so long or so short that float32 cannot tell their angles. An index holds these alone. Every
vector written is asked, and the product with itself is what the server works out fastest."""


class Reader(Protocol):
    """What runs statements."""

    async def rows(self, sql: str, params: Sequence[Any] = ()) -> list[SqlRow]: ...
    def pages(
        self, sql: str, params: Sequence[Any] = (), size: int = ...
    ) -> AsyncGenerator[list[SqlRow], None]: ...


def servable_sql(layout: Layout, version: Version) -> str:
    """The condition for cells whose vector search may use."""
    if version.id not in layout.place.versions:
        raise gone("a version")
    cells = cells_name(version.id)
    if serves_stale(layout.table, version):
        return f"{cells}.want IS NOT NULL AND {cells}.vector IS NOT NULL"
    # The server keeps statistics of states, and none of how often two columns are equal.
    current = f"{cells}.state = 'ready' AND {cells}.vector IS NOT NULL"
    return current if layout.place.moved is None else f"{current} AND NOT t.moved"


def sources_sql(layout: Layout, version: Version, condition: Filter) -> tuple[str, str]:
    """(key, FROM … WHERE …) of the servable cells whose rows pass the condition."""
    cells, servable = cells_name(version.id), servable_sql(layout, version)
    if condition.everything and layout.place.names is not None:
        # Rows of ours go with their cells in one transaction: there is no cell without its row.
        return f"{cells}.key", f"FROM {ours(cells)} AS {cells} WHERE {servable}"
    tables = layout.joined([version.id, *condition.versions])
    return "t.key", f"{tables} WHERE ({condition.text}) AND {servable}"


async def nearest(
    reader: Reader, layout: Layout, version: Version, vector: Vector, k: int, condition: Filter
) -> Candidates:
    """The `k` rows nearest to `vector` and all that tie with the last of them, nearest first, then by key."""
    if k <= 0:
        return Candidates([], complete=True)
    wanted = k + max(k // 4, _SPARE)
    for _ in range(_ATTEMPTS):
        if wanted * version.dimensions * 4 > _MOST_BYTES:
            break
        found = await _sorted_there(reader, layout, version, vector, k, wanted, condition)
        if found is not None:
            return found
        wanted *= _GROWTH
    return await _compared_here(reader, layout, version, vector, k, condition)


async def _sorted_there(
    reader: Reader, layout: Layout, version: Version, vector: Vector, k: int, wanted: int, condition: Filter
) -> Candidates | None:
    """None when the server's distances do not prove that nothing nearer was left out."""
    sql, params = statement(layout, version, vector, wanted, condition)
    rows = await reader.rows(sql, params)
    apart = apart_of(rows, version, vector).tolist()
    if len(rows) == wanted and not _proved(rows, sorted(apart)[k - 1], vector, version):
        return None
    return nearest_of(zip(apart, (row[0] for row in rows), strict=True), k)


def statement(
    layout: Layout, version: Version, vector: Vector, wanted: int, condition: Filter
) -> tuple[str, list[Any]]:
    """(key, vector, the server's distance, an extreme length) of the `wanted` rows nearest by the server's
    reckoning, nearest first; with the parameters."""
    cells, metric, params = cells_name(version.id), version.metric, list(condition.params)
    key, rest = sources_sql(layout, version, condition)
    # An index over the vectors orders by the operator alone: a sum is not what it is made for.
    apart = f"({cells}.vector {OPERATORS[metric]} ${len(params) + 1}::vector) + 0"
    sql = (
        f"SELECT n.key, n.vector, n.apart, {_extreme_sql(version)} FROM"
        f" (SELECT {key} AS key, {cells}.vector AS vector, {apart} AS apart {rest}) AS n"
        f" ORDER BY n.apart LIMIT ${len(params) + 2}::bigint"
    )
    return sql, [*params, to_bytes(asked(vector, metric)), wanted]


def _extreme_sql(version: Version) -> str:
    """SQL: the length of a vector that decides how much the server's distances are worth."""
    if version.metric is Metric.EUCLIDEAN:
        return "0::float8"
    table = ours(cells_name(version.id))
    if version.metric is Metric.INNER_PRODUCT:
        return f"(SELECT max(vector_norm(vector)) FROM {table})"
    # The order names the index that holds nothing else.
    return f"(SELECT vector_norm(vector) FROM {table} WHERE {UNUSUAL} ORDER BY vector_norm(vector) LIMIT 1)"


def _proved(rows: Sequence[SqlRow], kth: float, vector: Vector, version: Version) -> bool:
    extreme, metric = rows[0][3], version.metric
    if metric is Metric.COSINE and extreme is not None:
        return False
    length = float(np.linalg.norm(vector.astype(np.float64)))
    margin = Margin(metric, version.dimensions, length, float(extreme or 0.0))
    return margin.certain and margin.proves(float(rows[-1][2]), kth)


async def _compared_here(
    reader: Reader, layout: Layout, version: Version, vector: Vector, k: int, condition: Filter
) -> Candidates:
    """By every servable vector there is; memory stays flat."""
    key, rest = sources_sql(layout, version, condition)
    sql = f"SELECT {key}, {cells_name(version.id)}.vector {rest}"
    found = Nearest(version, vector, k)
    async with aclosing(reader.pages(sql, condition.params, found.page)) as pages:
        async for page in pages:
            found.add(page)
    return found.candidates()
