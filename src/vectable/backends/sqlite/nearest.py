"""Exact nearest neighbours straight from the file: every servable vector is compared, memory stays flat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from vectable.backends.compared import Nearest, serves_stale
from vectable.backends.compile.filter import Filter
from vectable.backends.sqlite.layout import Layout, cells_name
from vectable.backends.sqlite.select import SqlRow, joins
from vectable.core.schema import Version
from vectable.core.vectors import Vector
from vectable.interfaces import Candidates


class Reader(Protocol):
    """What runs statements."""

    def pages(self, sql: str, params: Sequence[Any] = (), size: int = ...) -> Iterator[list[SqlRow]]: ...


def nearest(
    reader: Reader, layout: Layout, version: Version, vector: Vector, k: int, condition: Filter
) -> Candidates:
    """The `k` rows nearest to `vector` and all that tie with the last of them, nearest first, then by key."""
    cells = cells_name(version.id)
    servable = f"{cells}.want IS NOT NULL AND {cells}.vector IS NOT NULL"
    if not serves_stale(layout.table, version):
        servable += f" AND {cells}.have = {cells}.want"
    tables = joins(layout, [version.id, *condition.versions])
    sql = f"SELECT t.key, {cells}.vector {tables} WHERE ({condition.text}) AND {servable}"
    found = Nearest(version, vector, k)
    for page in reader.pages(sql, condition.params, found.page):
        found.add(page)
    return found.candidates()
