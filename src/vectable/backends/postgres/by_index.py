"""Nearest neighbours by an index of the server: candidates, which the engine compares anew."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

from vectable.backends.compile.filter import Filter
from vectable.backends.postgres.indexes import ordering, settings
from vectable.backends.postgres.layout import Layout, cells_name
from vectable.backends.postgres.margin import asked
from vectable.backends.postgres.nearest import sources_sql
from vectable.backends.postgres.select import SqlRow
from vectable.backends.refusals import gone
from vectable.core.key import KeyBytes
from vectable.core.schema import Index, Version
from vectable.core.vectors import Vector, to_bytes

_VECTOR = re.compile(r"'\[[^']*\]'")


class Reader(Protocol):
    """What runs statements, in one transaction."""

    async def rows(self, sql: str, params: Sequence[Any] = ()) -> list[SqlRow]: ...
    async def set(self, sql: str) -> None: ...


async def nominate(
    reader: Reader, layout: Layout, index: Index, effort: int, vector: Vector, k: int, condition: Filter
) -> list[KeyBytes]:
    """See `engine.search.indexing.IndexedView`."""
    wanted = rounded(k)
    sql, params = statement(layout, index, vector, wanted, condition)
    await reader.set(settings(index, effort, wanted))
    # A row that moves while the index is walked may be met twice.
    return list(dict.fromkeys(row[0] for row in await reader.rows(sql, params)))


def statement(
    layout: Layout, index: Index, vector: Vector, wanted: int, condition: Filter
) -> tuple[str, list[Any]]:
    """The query, with its parameters. Its limit is spelt out: the server plans by it."""
    version = version_of(layout, index)
    key, rest = sources_sql(layout, version, condition)
    params = [*condition.params, to_bytes(asked(vector, version.metric))]
    stored = f"{cells_name(version.id)}.vector"
    reach, order = ordering(index, version, stored, f"${len(params)}")
    within = f" AND {reach}" if reach else ""
    return f"SELECT {key} AS key {rest}{within} ORDER BY {order} LIMIT {wanted}", params


def version_of(layout: Layout, index: Index) -> Version:
    """The version an index is over. Raises StaleGeneration."""
    for _, version in layout.table.versions:
        if version.id == index.version:
            return version
    raise gone("a version")


def rounded(k: int) -> int:
    """`k` or a little more, of few values: a statement that is known already needs no planning."""
    step = 1 << max(0, k.bit_length() - 3)
    return -(-k // step) * step


def readable(plan: Sequence[SqlRow]) -> str:
    """Lines of EXPLAIN without the components of vectors."""
    return _VECTOR.sub("'[…]'", "\n".join(row[0] for row in plan))
