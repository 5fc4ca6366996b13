"""Pages and counts by one statement outside any transaction: see `engine.search.direct`. Such a statement
takes its locks first, and sees one moment: so the rows are where the generation it reads says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vectable.backends.compared import native
from vectable.backends.compile.filter import Filter
from vectable.backends.postgres.layout import Layout
from vectable.backends.postgres.scan import scan_sql
from vectable.backends.postgres.select import SqlRow, selection
from vectable.backends.postgres.unchanged import current_sql, get_unchanged
from vectable.backends.postgres.view import BATCH, GONE
from vectable.core.query import OrderTerm
from vectable.core.rows import RecordBatch
from vectable.drivers.postgres import Connection, PostgresDriver
from vectable.interfaces import Noted, Position


async def page(
    driver: PostgresDriver,
    layout: Layout,
    condition: Filter,
    columns: Sequence[str],
    versions: Sequence[str],
    order: Sequence[OrderTerm],
    after: Position | None,
    limit: int,
    noted: Noted | None,
) -> RecordBatch | None:
    """See `DirectReader.page`. None also for more rows than a view reads at once."""
    if limit > BATCH or not native(layout.table, order):
        return None
    chosen = selection(layout, columns, versions)
    tail, params, cells = scan_sql(layout, chosen, condition, order, after, limit)
    if not _is_planned_once(layout, cells):
        return None
    rows = await _rows(driver, layout, chosen.expressions, tail, params, noted)
    if rows:
        return chosen.batch(rows) if rows[0][-1] else None
    # No row, none to tell whether it is one of the present definition. Those only get newer: what is the
    # present one now was it then.
    return None if rows is None else await get_unchanged(driver, layout, None, (), columns, versions, noted)


async def count(driver: PostgresDriver, layout: Layout, condition: Filter, noted: Noted | None) -> int | None:
    """See `DirectReader.count`."""
    if not _is_planned_once(layout, condition.versions):
        return None
    tail = f"{layout.joined(condition.versions)} WHERE {condition.text}"
    rows = await _rows(driver, layout, "count(*)", tail, condition.params, noted)
    return rows[0][0] if rows and rows[0][-1] else None


def _is_planned_once(layout: Layout, versions: Sequence[str]) -> bool:
    """Whether one plan will do for good. Cells of an attached table are read beside its queue of changes,
    which is empty now and long in a second: a view plans anew."""
    return layout.table.foreign is None or not versions


async def _rows(
    driver: PostgresDriver, layout: Layout, listed: str, tail: str, params: Sequence[Any], noted: Noted | None
) -> list[SqlRow] | None:
    """The rows, each with whether they are those of the present definition as its last field."""
    place = layout.place
    if place.generation != layout.table.generation:
        return None
    first = len(params) + 1
    proof = f"(SELECT {current_sql(first + 1)} FROM vectable.tables AS s WHERE s.id = ${first})"
    asked = (*params, layout.table.id, place.generation, *(noted or (None, None)))

    async def read(connection: Connection) -> list[SqlRow] | None:
        try:
            rows: list[SqlRow] = await connection.fetch(f"SELECT {listed}, {proof} {tail}", *asked)
        except GONE:
            return None  # a view says what is wrong
        return rows

    return await driver.read(read)
