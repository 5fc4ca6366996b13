"""Makes storage fit a definition: what is missing is made, what is too much goes. So it may be repeated."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping

from vectable.backends.postgres.fit_indexes import drop_vector_indexes, fit_indexes, stop_builds
from vectable.backends.postgres.foreign import storage as foreign
from vectable.backends.postgres.indexes import check_index
from vectable.backends.postgres.layout import KEY, REVISION, XID, Place, cells_name, physical
from vectable.backends.postgres.naming import column_names, free_name, plain_name
from vectable.backends.postgres.nearest import UNUSUAL
from vectable.backends.postgres.place import find_place, managed_place
from vectable.backends.postgres.tombstones import create_tombstones
from vectable.backends.postgres.values import CASTS, DECLARED, encoder
from vectable.backends.refusals import changed, not_found
from vectable.core.schema import Column, Metric, Table, Version
from vectable.core.values import check_default
from vectable.drivers.postgres import Connection, PostgresDriver, ours, qualified, quote
from vectable.errors import BackendBusy, Conflict, Unsupported
from vectable.interfaces import SchemaChange

MAX_DIMENSIONS = 16_000
"""pgvector's."""
_LOCK_WAIT_MS = 200
_PATIENCE_S = 30.0
_PAUSE_S = 0.05
_STATE = """text COLLATE "C" GENERATED ALWAYS AS (CASE
        WHEN want IS NULL THEN 'empty'
        WHEN have IS NOT DISTINCT FROM want THEN 'ready'
        WHEN error IS NOT NULL THEN 'error'
        WHEN have IS NOT NULL THEN 'stale'
        ELSE 'new' END) STORED"""


def check(table: Table, change: SchemaChange) -> None:
    """Raises Unsupported for what cannot be stored, before anything changes."""
    index = change.index
    if change.kind == "create_index" and index is not None and index.type == "vector":
        for _, version in table.versions:
            if version.id == index.version:
                check_index(version, str(index.method), index.parameters)
    elif change.kind == "create_index" and table.foreign is not None:
        raise Unsupported(
            f"the columns of table {table.full_name!r} are others', and stay as they are",
            hint=f"its owner may create an index on {table.foreign.place}.{table.foreign.name}",
        )
    for column, version in table.versions:
        if version.dimensions > MAX_DIMENSIONS:
            raise Unsupported(
                f"column {column.name!r} has {version.dimensions} dimensions;"
                f" PostgreSQL keeps vectors of up to {MAX_DIMENSIONS:,}",
                hint="use a model with fewer dimensions, or the embedded backend",
            )


async def run(driver: PostgresDriver, table: Table, change: SchemaChange) -> None:
    """The change in a transaction of its own. Raises StaleGeneration, TableNotFound, Conflict (a name that
    is another's), BackendBusy."""
    deadline = time.monotonic() + _PATIENCE_S

    async def attempt(connection: Connection) -> None:
        # Who waits for readers to leave keeps new ones out: so it waits briefly, and often.
        await connection.execute(f"SET LOCAL lock_timeout = {_LOCK_WAIT_MS}")
        if change.kind == "drop_table":
            await _drop(connection, table)
        else:
            await _fit(connection, driver.rows_schema, table, create=change.kind == "create_table")

    while True:
        try:
            await driver.transaction(attempt, statement_timeout_ms=0)
            return
        except BackendBusy:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(_PAUSE_S)


async def _locked(connection: Connection, table: Table) -> Place | None:
    """Where the table is, everybody else kept out of it; None where it is not stored."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 1))", table.id)
    place = await find_place(connection, table)
    if place is None:
        return None
    if table.generation < place.generation:
        raise changed(table)
    await connection.execute(f"LOCK TABLE {place.rows} IN ACCESS EXCLUSIVE MODE")
    return place


async def _fit(connection: Connection, schema: str, table: Table, *, create: bool) -> None:
    place = await _locked(connection, table)
    if place is None and not create:
        raise not_found(table)
    if table.foreign is not None:
        if place is None:
            await foreign.create(connection, table)
        stored = frozenset() if place is None else place.versions
        # Views stand on cells: they come after the new ones, and leave the old ones before those go.
        await _add_versions(connection, table, stored)
        await foreign.fit(connection, table)
        await _drop_versions(connection, table, stored)
        await drop_vector_indexes(connection, table, _kept(table, stored))
        return
    if place is None:
        place = await _create(connection, schema, table)
    name = await _fit_name(connection, table, place)
    place = managed_place(table.id, place.generation, place.schema, name, place.names or {}, place.versions)
    names = await _fit_columns(connection, table, place)
    await _drop_versions(connection, table, place.versions)
    await _add_versions(connection, table, place.versions)
    await fit_indexes(connection, table, place, names)
    await drop_vector_indexes(connection, table, _kept(table, place.versions))
    await connection.execute(
        "UPDATE vectable.tables SET generation = $2, rows_name = $3, columns = $4::text::jsonb WHERE id = $1",
        table.id,
        table.generation,
        name,
        json.dumps(dict(names), ensure_ascii=False),
    )


async def _drop(connection: Connection, table: Table) -> None:
    place = await _locked(connection, table)
    if place is None:
        return
    if table.foreign is not None:
        await foreign.drop(connection, table)
    for version in sorted(place.versions):
        await stop_builds(connection, version)
        await connection.execute(f"DROP TABLE IF EXISTS {ours(cells_name(version))}")
    await connection.execute(f"DROP TABLE IF EXISTS {place.rows}")
    await connection.execute(f"DROP TABLE IF EXISTS {place.tombstones}")
    await connection.execute("DELETE FROM vectable.receipts WHERE table_id = $1", table.id)
    await connection.execute("DELETE FROM vectable.tables WHERE id = $1", table.id)


async def _create(connection: Connection, schema: str, table: Table) -> Place:
    name = await _new_name(connection, schema, table)
    names = column_names(table)
    columns = "".join(f", {quote(names[c.id])} {DECLARED[c.type]}" for c in table.stored_columns)
    place = managed_place(table.id, 0, schema, name, names, frozenset())
    await connection.execute(
        f"CREATE TABLE {place.rows} ({KEY} bytea PRIMARY KEY, {XID} xid8 NOT NULL DEFAULT"
        f" pg_current_xact_id(), {REVISION} bigint GENERATED ALWAYS AS IDENTITY{columns})"
    )
    await connection.execute(f"CREATE INDEX ON {place.rows} ({XID})")
    await create_tombstones(connection, place.tombstones)
    await connection.execute(
        "INSERT INTO vectable.tables (id, generation, rows_schema, rows_name, columns)"
        " VALUES ($1, $2, $3, $4, $5::text::jsonb)",
        table.id,
        table.generation,
        schema,
        name,
        json.dumps(dict(names), ensure_ascii=False),
    )
    return place


async def _owner(connection: Connection, schema: str, name: str) -> tuple[str | None, bool]:
    """(id of the table of ours that is called so, whether anything is)."""
    found = await connection.fetchrow(
        "SELECT (SELECT id FROM vectable.tables WHERE rows_schema = $1 AND rows_name = $2),"
        " EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')),"
        " EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = $1 AND c.relname = $2)"
        " OR EXISTS (SELECT FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace"
        " WHERE n.nspname = $1 AND t.typname = $2)",
        schema,
        name,
    )
    owner, is_table, is_anything = found
    if owner is None and is_table:
        return None, True
    return (owner or "", True) if is_anything or owner else (None, False)


async def _new_name(connection: Connection, schema: str, table: Table) -> str:
    wanted = plain_name(table)
    owner, taken = await _owner(connection, schema, wanted)
    if taken and owner is None:
        raise Conflict(
            f"the database already has a table {schema}.{wanted}, which is not Vectable's",
            hint=f"enrich that one in place: vectable attach URL {wanted}; or choose another name, or another"
            " schema for rows: VECTABLE_POSTGRES_ROWS_SCHEMA",
        )
    return await _free_name(connection, schema, table)


async def _free_name(connection: Connection, schema: str, table: Table) -> str:
    async def is_free(name: str) -> bool:
        owner, taken = await _owner(connection, schema, name)
        return not taken or owner == table.id

    return await free_name(table, is_free)


async def _fit_name(connection: Connection, table: Table, place: Place) -> str:
    name = await _free_name(connection, place.schema, table)
    if name != place.name:
        await connection.execute(f"ALTER TABLE {place.rows} RENAME TO {quote(name)}")
    return name


async def _fit_columns(connection: Connection, table: Table, place: Place) -> Mapping[str, str]:
    stored, wanted = dict(place.names or {}), column_names(table)
    alter = f"ALTER TABLE {qualified(place.schema, place.name)}"
    for id_ in sorted(stored.keys() - wanted.keys()):
        await connection.execute(f"{alter} DROP COLUMN {quote(stored.pop(id_))}")
    renamed = {id_: name for id_, name in stored.items() if wanted[id_] != name}
    # Names may be exchanged: so each goes by way of one that nobody has.
    for id_, name in renamed.items():
        await connection.execute(f"{alter} RENAME COLUMN {quote(name)} TO {physical('vectable', id_)}")
    for id_ in renamed:
        await connection.execute(f"{alter} RENAME COLUMN {physical('vectable', id_)} TO {quote(wanted[id_])}")
    for column in table.stored_columns:
        if column.id not in stored:
            await _add_column(connection, alter, column, wanted[column.id])
    return wanted


async def _add_column(connection: Connection, alter: str, column: Column, name: str) -> None:
    declared = f"{alter} ADD COLUMN {quote(name)} {DECLARED[column.type]}"
    default = check_default(column)
    if default is None:
        await connection.execute(declared)
        return
    encode, cast = encoder(column.type), CASTS[column.type]
    constant = await connection.fetchval(
        f"SELECT quote_literal(($1::{cast})::text)", default if encode is None else encode(default)
    )
    # A constant default is kept once for all rows there are: none is rewritten. New rows say their own.
    await connection.execute(f"{declared} DEFAULT {constant}::{cast}")
    await connection.execute(f"{alter} ALTER COLUMN {quote(name)} DROP DEFAULT")


def _kept(table: Table, stored: frozenset[str]) -> frozenset[str]:
    return stored & {version.id for _, version in table.versions}


async def _drop_versions(connection: Connection, table: Table, stored: frozenset[str]) -> None:
    for id_ in sorted(stored - {version.id for _, version in table.versions}):
        await stop_builds(connection, id_)
        await connection.execute(f"DROP TABLE {ours(cells_name(id_))}")
        await connection.execute("DELETE FROM vectable.versions WHERE id = $1", id_)


async def _add_versions(connection: Connection, table: Table, stored: frozenset[str]) -> None:
    for _, version in table.versions:
        if version.id not in stored:
            await _create_cells(connection, version)
            await connection.execute(
                "INSERT INTO vectable.versions (id, table_id) VALUES ($1, $2)", version.id, table.id
            )


async def _create_cells(connection: Connection, version: Version) -> None:
    name = ours(cells_name(version.id))
    # Vectors that fit a page stay in their rows, where an exact search reads them without a detour.
    await connection.execute(
        f"CREATE TABLE {name} (key bytea PRIMARY KEY, want bytea, have bytea,"
        f" vector vector({version.dimensions}), error text, attempts int NOT NULL DEFAULT 0,"
        f" xid xid8 NOT NULL DEFAULT pg_current_xact_id(), state {_STATE}) WITH (toast_tuple_target = 8160)"
    )
    await connection.execute(f"CREATE INDEX ON {name} (xid)")
    # Finds the cells with work to do at once, however many are ready.
    await connection.execute(f"CREATE INDEX ON {name} (state) WHERE state <> 'ready'")
    if version.metric is Metric.INNER_PRODUCT:
        await connection.execute(f"CREATE INDEX ON {name} (vector_norm(vector))")
    elif version.metric is Metric.COSINE:
        await connection.execute(f"CREATE INDEX ON {name} (vector_norm(vector)) WHERE {UNUSUAL}")
