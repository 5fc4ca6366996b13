"""What lies beside an attached table: a line for each row, the queue of changes, views for plain SQL."""

from __future__ import annotations

from collections.abc import Sequence

from vectable.backends.postgres.foreign.record import (
    Attached,
    function,
    queue,
    sidecar,
    sidecar_name,
    sources,
)
from vectable.backends.postgres.layout import KEY, REVISION, XID, cells_name, physical
from vectable.backends.postgres.naming import fitted
from vectable.backends.postgres.tombstones import create_tombstones
from vectable.core.schema import DEFAULT_NAMESPACE, Column, Foreign, Table
from vectable.drivers.postgres import SCHEMA, Connection, literal, ours, quote

_ID_PART = 8
_VIEW_NOTE = "Vectable's view of an embedding column: "


async def create(connection: Connection, table: Table) -> None:
    """Makes what is ours; theirs is not even looked at. Within the caller's transaction."""
    foreign = _foreign(table)
    types = [foreign.columns[id_].stored for id_ in table.key]
    parts = "".join(f", k{i} {type_}" for i, type_ in enumerate(types))
    names = ", ".join(f"k{i}" for i in range(len(types)))
    await connection.execute(
        f"CREATE TABLE {sidecar(table.id)} ({KEY} bytea PRIMARY KEY, {XID} xid8 NOT NULL DEFAULT"
        f" pg_current_xact_id(), {REVISION} bigint GENERATED ALWAYS AS IDENTITY{parts},"
        " seen xid NOT NULL, digest bytea)"
    )
    await connection.execute(f"CREATE INDEX ON {sidecar(table.id)} ({XID})")
    await connection.execute(f"CREATE INDEX ON {sidecar(table.id)} ({names})")
    await connection.execute(
        f"CREATE TABLE {queue(table.id)} (xid xid8 NOT NULL DEFAULT pg_current_xact_id(),"
        f" whole boolean NOT NULL DEFAULT false{parts})"
    )
    await connection.execute(f"ALTER TABLE {queue(table.id)} REPLICA IDENTITY FULL")
    await connection.execute(f"CREATE INDEX ON {queue(table.id)} (xid)")
    await create_tombstones(connection, ours(physical("d", table.id)))
    record = Attached(foreign=foreign, key=table.key, key_types=tuple(types))
    await connection.execute(
        "INSERT INTO vectable.tables (id, generation, rows_schema, rows_name, attached)"
        " VALUES ($1, $2, $3, $4, $5::text::jsonb)",
        table.id,
        table.generation,
        SCHEMA,
        sidecar_name(table.id),
        record.model_dump_json(),
    )


async def read(connection: Connection, table: Table) -> Attached | None:
    """What is kept of the table; None where it is not stored."""
    text = await connection.fetchval("SELECT attached::text FROM vectable.tables WHERE id = $1", table.id)
    return None if text is None else Attached.model_validate_json(text)


async def write(connection: Connection, table: Table, record: Attached) -> None:
    """Keeps `record` of the table from now on."""
    await connection.execute(
        "UPDATE vectable.tables SET attached = $2::text::jsonb WHERE id = $1",
        table.id,
        record.model_dump_json(),
    )


async def fit(connection: Connection, table: Table) -> None:
    """Makes views and bookkeeping those of the definition, whose versions have their cells."""
    record = await read(connection, table)
    if record is None:
        return
    views = await _fit_views(connection, table, record)
    # What is known of a column here has been kept up to date since it was defined.
    columns = {**_foreign(table).columns, **record.foreign.columns}
    foreign = record.foreign.model_copy(update={"columns": columns})
    record = record.model_copy(update={"sources": sources(table), "views": views, "foreign": foreign})
    await write(connection, table, record)
    await connection.execute(
        "UPDATE vectable.tables SET generation = $2 WHERE id = $1", table.id, table.generation
    )


async def retype_keys(connection: Connection, table: Table, attached: Attached, types: Sequence[str]) -> None:
    """Keeps their key as `types` from now on. Views on it are made anew, without rights granted on them."""
    for name in attached.views.values():
        await connection.execute(f"DROP VIEW IF EXISTS {ours(name)}")
    for i, type_ in enumerate(types):
        for name in (sidecar(table.id), queue(table.id)):
            await connection.execute(
                f"ALTER TABLE {name} ALTER COLUMN k{i} TYPE {type_} USING k{i}::text::{type_}"
            )
    await fit(connection, table)


async def drop(connection: Connection, table: Table) -> None:
    """Removes what is ours but the cells; also where theirs is gone or not ours to change: triggers go with
    their function."""
    record = await read(connection, table)
    for name in (record.views if record else {}).values():
        await connection.execute(f"DROP VIEW IF EXISTS {ours(name)}")
    await connection.execute(f"DROP FUNCTION IF EXISTS {function(table.id)}() CASCADE")
    await connection.execute(f"DROP TABLE IF EXISTS {queue(table.id)}")


def _foreign(table: Table) -> Foreign:
    if table.foreign is None:
        raise TypeError(f"table {table.full_name} is not attached")
    return table.foreign


async def _fit_views(connection: Connection, table: Table, record: Attached) -> dict[str, str]:
    computed = {c.id: c for c in table.vector_columns if c.embedding is not None}
    kept = {}
    # A view stands on the cells of one version: made anew, it keeps the rights that were granted on it.
    for id_, name in record.views.items():
        if id_ not in computed:
            await connection.execute(f"DROP VIEW IF EXISTS {ours(name)}")
        else:
            kept[id_] = name
    for id_, column in computed.items():
        wanted = await _view_name(connection, table, column)
        old = kept.get(id_)
        if old is not None and old != wanted:
            await connection.execute(f"ALTER VIEW IF EXISTS {ours(old)} RENAME TO {quote(wanted)}")
        kept[id_] = wanted
        await connection.execute(f"CREATE OR REPLACE VIEW {ours(wanted)} AS {_view(table, column, record)}")
        await connection.execute(f"COMMENT ON VIEW {ours(wanted)} IS {literal(_VIEW_NOTE + column.id)}")
    return kept


async def _view_name(connection: Connection, table: Table, column: Column) -> str:
    """TABLE_COLUMN, unless something else is called so."""
    space = "" if table.namespace == DEFAULT_NAMESPACE else f"{table.namespace}_"
    plain = fitted(f"{space}{table.name}_{column.name}")
    owner = await connection.fetchrow(
        "SELECT obj_description(c.oid, 'pg_class') FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
        SCHEMA,
        plain,
    )
    if owner is None or owner[0] == _VIEW_NOTE + column.id:
        return plain
    return fitted(plain, f"_{column.id[:_ID_PART]}")


def _view(table: Table, column: Column, record: Attached) -> str:
    """Nothing of theirs: their owner could not change the table any more without dropping the view."""
    cells = cells_name(column.version.id)
    taken = {"vector", "status"}
    keys = []
    for i, id_ in enumerate(record.key):
        name = record.foreign.columns[id_].name
        while name in taken:
            name = fitted(name, "_")
        taken.add(name)
        keys.append(f"r.k{i} AS {quote(name)}")
    same = " AND ".join(f"q.k{i} = r.k{i}" for i in range(len(record.key)))
    waiting = (
        f"(EXISTS (SELECT FROM {queue(table.id)} q WHERE q.whole)"
        f" OR EXISTS (SELECT FROM {queue(table.id)} q WHERE {same}))"
    )
    current = (
        "v.state IN ('ready', 'stale')" if column.serves_stale else f"v.state = 'ready' AND NOT {waiting}"
    )
    return (
        f"SELECT {', '.join(keys)}, CASE WHEN {current} THEN v.vector::vector END AS vector,"
        f" CASE WHEN v.state = 'ready' AND {waiting} THEN 'stale' ELSE coalesce(v.state, 'empty') END"
        f' COLLATE "C" AS status'
        f" FROM {sidecar(table.id)} r LEFT JOIN {ours(cells)} v ON v.key = r.{KEY}"
    )
