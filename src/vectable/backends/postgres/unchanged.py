"""Rows of a table that has not changed, by one statement that proves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def current_sql(first: int) -> str:
    """Whether the line `s` of `vectable.tables` is at the generation `$first`, and the entry of the state
    store that the parameter behind it names, if it does, at the revision in the one behind that."""
    key, revision = f"${first + 1}", f"${first + 2}"
    at_it = f"{revision} = (SELECT revision FROM vectable.state WHERE key = {key})"
    return f"s.generation = ${first} AND ({key}::text IS NULL OR {at_it})"


_CURRENT = current_sql(2)


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
    about = (None, None) if noted is None else noted
    asked: list[Any] = [table.id, place.generation, *about]
    if snapshot is not None:
        asked.append(str(snapshot))
    if keys:
        asked.append(list(keys))
    sql = _statement(chosen, layout, since=snapshot is not None, rows=bool(keys))

    async def read(connection: Connection) -> list[SqlRow]:
        try:
            rows: list[SqlRow] = await connection.fetch(sql, *asked)
        except GONE:
            return []  # a view says what is wrong
        return rows

    found = await driver.read(read)
    if not found or not found[0][-1]:
        return None
    return chosen.asked(keys, found if keys else ())


def _statement(chosen: Selection, layout: Layout, *, since: bool, rows: bool) -> str:
    """`$1` the table's id, `$2` its generation, `$3` and `$4` what was noted of the state; with `since` the
    snapshot since which nothing has changed; with `rows` their keys, last."""
    known = chosen.proved.get((since, rows))
    if known is None:
        condition = _unchanged(layout.place) if since else _CURRENT
        known = f"SELECT {condition} AS holds FROM vectable.tables AS s WHERE s.id = $1"
        if rows:
            keys = f"t.key = ANY (${6 if since else 5}::bytea[])"
            found = f"SELECT {chosen.expressions} {layout.joined(chosen.versions)} WHERE {keys}"
            known = f"SELECT q.*, p.holds FROM ({known}) AS p LEFT JOIN ({found}) AS q ON TRUE"
        chosen.proved[since, rows] = known
    return known


def _unchanged(place: Place) -> str:
    changed = any_changed_since(sources_of(place), "$5")
    return f"{_CURRENT} AND s.floor <= pg_snapshot_xmin($5::text::pg_snapshot) AND NOT ({changed})"
