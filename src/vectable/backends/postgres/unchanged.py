"""Rows of a table that has not changed, by one statement that proves it."""

from __future__ import annotations

from collections.abc import Sequence

from vectable.backends.postgres.layout import Layout, Place
from vectable.backends.postgres.select import Selection, SqlRow, selection
from vectable.backends.postgres.standing import any_changed_since, parse_mark
from vectable.backends.postgres.view import GONE
from vectable.backends.postgres.viewing import sources_of
from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.rows import RecordBatch
from vectable.drivers.postgres import Connection, PostgresDriver
from vectable.interfaces import Noted

_KEYS = 5_000
_CURRENT = (
    "s.generation = $3 AND ($4::text IS NULL OR $5 = (SELECT revision FROM vectable.state WHERE key = $4))"
)


async def get_unchanged(
    driver: PostgresDriver,
    layout: Layout,
    since: Mark | None,
    keys: Sequence[KeyBytes],
    columns: Sequence[str],
    versions: Sequence[str],
    noted: Noted | None,
) -> RecordBatch | None:
    """See `Backend.get_unchanged`. A statement outside any transaction takes its locks first, and sees one
    moment: so the rows are where the generation it reads says. None also for more keys than it takes."""
    table, place = layout.table, layout.place
    snapshot = None if since is None else parse_mark(since, driver.incarnation, table)
    if (since is not None and snapshot is None) or len(keys) > _KEYS or place.generation != table.generation:
        return None
    if place.names is None and place.queue is None:
        return None  # rows of others, who tell nobody when they change them
    chosen = selection(layout, columns, versions)
    if snapshot is None:
        sql = chosen.at_once = chosen.at_once or _statement(chosen, layout, _CURRENT)
        asked: tuple[str, ...] = ()
    else:
        sql = chosen.with_proof = chosen.with_proof or _statement(chosen, layout, _unchanged(layout.place))
        asked = (str(snapshot),)

    about = (None, None) if noted is None else noted

    async def read(connection: Connection) -> list[SqlRow]:
        try:
            rows: list[SqlRow] = await connection.fetch(
                sql, list(keys), table.id, place.generation, *about, *asked
            )
        except GONE:
            return []  # a view says what is wrong
        return rows

    found = await driver.read(read)
    if not found or not found[0][-1]:
        return None
    return chosen.asked(keys, found)


def _unchanged(place: Place) -> str:
    """`$6`: the snapshot since which nothing has changed."""
    changed = any_changed_since(sources_of(place), "$6")
    return f"{_CURRENT} AND s.floor <= pg_snapshot_xmin($6::text::pg_snapshot) AND NOT ({changed})"


def _statement(chosen: Selection, layout: Layout, condition: str) -> str:
    """`$1` the keys, `$2` the table's id, `$3` its generation, `$4` and `$5` what was noted of the state."""
    proof = f"SELECT {condition} AS holds FROM vectable.tables AS s WHERE s.id = $2"
    rows = f"SELECT {chosen.expressions} {layout.joined(chosen.versions)} WHERE t.key = ANY ($1::bytea[])"
    return f"SELECT q.*, p.holds FROM ({proof}) AS p LEFT JOIN ({rows}) AS q ON TRUE"
