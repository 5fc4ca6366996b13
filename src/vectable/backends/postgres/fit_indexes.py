"""Indexes over stored columns: those the definition names, and no others of ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from vectable.backends.postgres.layout import Place, beginning, cells_name, index_name
from vectable.core.schema import Column, ColumnType, Index, Table
from vectable.drivers.postgres import Connection, ours, qualified, quote

_OURS = "^i_([0-9a-z]{1,48}|x[0-9a-f]{40})$"


async def fit_indexes(connection: Connection, table: Table, place: Place, names: Mapping[str, str]) -> None:
    """Makes what is missing over stored columns and drops what is too much. A dropped column took its indexes
    along."""
    columns = {c.id: c for c in table.stored_columns}
    wanted = {
        index_name(index): (index, columns[index.column])
        for index in table.indexes
        if index.type != "vector" and index.column in columns
    }
    existing = await _existing(connection, place.rows)
    for name in sorted(existing - wanted.keys()):
        await connection.execute(f"DROP INDEX {qualified(place.schema, name)}")
    for name, (index, column) in wanted.items():
        if name not in existing:
            over = _over(index, column, quote(names[column.id]))
            await connection.execute(f"CREATE INDEX {quote(name)} ON {place.rows} USING {over}")


async def drop_vector_indexes(connection: Connection, table: Table, versions: Collection[str]) -> None:
    """Drops indexes over the cells of these versions that the definition has no more. They are built
    elsewhere, for that takes long."""
    wanted = {index_name(index) for index in table.indexes if index.type == "vector"}
    for version in sorted(versions):
        await stop_builds(connection, version, keep=wanted)
        for name in sorted(await _existing(connection, ours(cells_name(version))) - wanted):
            await connection.execute(f"DROP INDEX {ours(name)}")


async def stop_builds(connection: Connection, version: str, keep: Collection[str] = ()) -> None:
    """Stops whoever builds an index over the version's cells, which holds a lock on them."""
    await connection.execute(
        "SELECT pg_cancel_backend(p.pid) FROM pg_stat_progress_create_index p"
        " JOIN pg_class i ON i.oid = p.index_relid"
        " WHERE p.relid = to_regclass($1) AND i.relname <> ALL ($2::text[])",
        ours(cells_name(version)),
        list(keep),
    )


async def _existing(connection: Connection, relation: str) -> set[str]:
    found = await connection.fetch(
        "SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid"
        " WHERE x.indrelid = $1::text::regclass AND i.relname ~ $2",
        relation,
        _OURS,
    )
    return {row[0] for row in found}


def _over(index: Index, column: Column, name: str) -> str:
    """What stands behind USING. A btree refuses to hold a value of more than a third of a page, so that long
    texts could not be stored any more: it is over their beginnings, which `filter` asks for, too."""
    if column.type is ColumnType.JSON:
        return f"gin (({name}::jsonb))"
    if column.type in (ColumnType.STRINGS, ColumnType.INTS, ColumnType.FLOATS):
        return f"gin ({name})"
    if index.type == "hash" or column.type is ColumnType.IMAGE:
        return f"hash ({name})"
    return f"btree ({beginning(name) if column.type is ColumnType.STRING else name})"
