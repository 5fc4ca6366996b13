"""Rows of a table that has not changed, by one statement that proves it."""

from __future__ import annotations

from collections.abc import Sequence

from vectable.backends.postgres.layout import Layout
from vectable.backends.postgres.select import Selection, SqlRow, selection
from vectable.backends.postgres.standing import any_changed_since, parse_mark
from vectable.backends.postgres.view import GONE
from vectable.backends.postgres.viewing import sources_of
from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.rows import RecordBatch
from vectable.drivers.postgres import Connection, PostgresDriver

_KEYS = 5_000


async def get_unchanged(
    driver: PostgresDriver,
    layout: Layout,
    since: Mark,
    keys: Sequence[KeyBytes],
    columns: Sequence[str],
    versions: Sequence[str],
) -> RecordBatch | None:
    """See `Backend.get_unchanged`. A statement outside any transaction takes its locks first, and sees one
    moment: so the rows are where the generation it reads says. None also for more keys than it takes."""
    table, place = layout.table, layout.place
    snapshot = parse_mark(since, driver.incarnation, table)
    if snapshot is None or len(keys) > _KEYS or place.generation != table.generation:
        return None
    if place.names is None and place.queue is None:
        return None  # rows of others, who tell nobody when they change them
    chosen = selection(layout, columns, versions)
    sql = chosen.with_proof = chosen.with_proof or _statement(layout, chosen)

    async def read(connection: Connection) -> list[SqlRow]:
        try:
            rows: list[SqlRow] = await connection.fetch(
                sql, table.id, place.generation, str(snapshot), list(keys)
            )
        except GONE:
            return []  # a view says what is wrong
        return rows

    found = await driver.read(read)
    if not found or not found[0][-1]:
        return None
    by_key = {row[0]: row for row in found if row[0] is not None}
    return chosen.batch([by_key[key] for key in keys if key in by_key])


def _statement(layout: Layout, chosen: Selection) -> str:
    """`$1` the table's id, `$2` its generation, `$3` the snapshot, `$4` the keys."""
    changed = any_changed_since(sources_of(layout.place), "$3")
    floor = "s.floor <= pg_snapshot_xmin($3::text::pg_snapshot)"
    proof = (
        f"SELECT s.generation = $2 AND {floor} AND NOT ({changed}) AS holds"
        " FROM vectable.tables AS s WHERE s.id = $1"
    )
    rows = f"SELECT {chosen.expressions} {layout.joined(chosen.versions)} WHERE t.key = ANY ($4::bytea[])"
    return f"SELECT q.*, p.holds FROM ({proof}) AS p LEFT JOIN ({rows}) AS q ON TRUE"
