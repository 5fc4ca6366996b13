"""Finds where the rows of a table are, from our own bookkeeping."""

from __future__ import annotations

import json
from collections.abc import Mapping

from vectable.backends.postgres.foreign.place import attached_place, find_theirs
from vectable.backends.postgres.foreign.record import Attached
from vectable.backends.postgres.layout import KEY, REVISION, XID, Place, physical
from vectable.core.schema import Table
from vectable.drivers.postgres import Connection, ours, qualified, quote

QUERY = (
    "SELECT t.generation, t.rows_schema, t.rows_name, t.columns::text, t.attached::text,"
    " ARRAY(SELECT v.id FROM vectable.versions v WHERE v.table_id = t.id) FROM vectable.tables t"
    " WHERE t.id = $1"
)


async def find_place(connection: Connection, table: Table) -> Place | None:
    """Where the rows are, as the connection sees it now; None where the table is not stored."""
    row = await connection.fetchrow(QUERY, table.id)
    if row is None:
        return None
    generation, schema, name, columns, attached, versions = row
    if attached is not None:
        record = Attached.model_validate_json(attached)
        theirs = await find_theirs(connection, table, record)
        return attached_place(table, generation, record, frozenset(versions), theirs)
    return managed_place(table.id, generation, schema, name, json.loads(columns), frozenset(versions))


def managed_place(
    table_id: str, generation: int, schema: str, name: str, names: Mapping[str, str], versions: frozenset[str]
) -> Place:
    """The place of a table that is ours alone: columns as they are."""
    rows = qualified(schema, name)
    return Place(
        generation=generation,
        rows=rows,
        source=f"{rows} AS r",
        expressions={id_: f"r.{quote(column)}" for id_, column in names.items()},
        tombstones=ours(physical("d", table_id)),
        versions=versions,
        names=names,
        schema=schema,
        name=name,
    )


FIXED = frozenset({KEY, XID, REVISION})
"""Names of the columns beside the user's."""
