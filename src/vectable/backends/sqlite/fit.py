"""Makes storage fit a definition: what is missing is made, what is too much goes. So it may be repeated."""

from __future__ import annotations

import sqlite3

from vectable.backends.refusals import changed, not_found
from vectable.backends.sqlite.layout import (
    Layout,
    cells_name,
    column_name,
    declared,
    index_name,
    physical,
)
from vectable.backends.sqlite.standing import find_standing
from vectable.backends.sqlite.values import encoder
from vectable.core.schema import Column
from vectable.core.values import check_default

_STATE = """state TEXT AS (CASE
        WHEN want IS NULL THEN 'empty'
        WHEN have IS want THEN 'ready'
        WHEN error IS NOT NULL THEN 'error'
        WHEN have IS NOT NULL THEN 'stale'
        ELSE 'new' END) VIRTUAL"""


def alter(connection: sqlite3.Connection, layout: Layout, *, create: bool) -> None:
    """Raises StaleGeneration for a definition older than the current one, TableNotFound without `create`."""
    table = layout.table
    standing = find_standing(connection, table)
    if standing is None:
        if not create:
            raise not_found(table)
        _create(connection, layout)
    else:
        _check_generation(layout, standing.generation)
    _fit_columns(connection, layout)
    _fit_versions(connection, layout)
    _fit_indexes(connection, layout)
    connection.execute(
        "UPDATE tables SET generation = ?, seq = seq + 1 WHERE id = ?", (table.generation, table.id)
    )


def drop(connection: sqlite3.Connection, layout: Layout) -> None:
    """Forgets the table and everything in it. Raises StaleGeneration."""
    table = layout.table
    standing = find_standing(connection, table)
    if standing is None:
        return
    _check_generation(layout, standing.generation)
    for (name,) in _version_tables(connection, layout):
        connection.execute(f"DROP TABLE IF EXISTS {name}")
    connection.execute("DELETE FROM versions WHERE table_id = ?", (table.id,))
    connection.execute(f"DROP TABLE IF EXISTS {layout.rows}")
    connection.execute(f"DROP TABLE IF EXISTS {layout.tombstones}")
    connection.execute("DELETE FROM receipts WHERE table_id = ?", (table.id,))
    connection.execute("DELETE FROM tables WHERE id = ?", (table.id,))


def missing_parts(connection: sqlite3.Connection, layout: Layout) -> list[str]:
    """Names of columns and ids of versions that `layout` reads and that are not stored."""
    columns = _stored_columns(connection, layout)
    versions = {name for (name,) in _version_tables(connection, layout)}
    return [c.name for c in layout.columns if column_name(c) not in columns] + [
        v for v in layout.versions if cells_name(v) not in versions
    ]


def _check_generation(layout: Layout, current: int) -> None:
    if layout.table.generation < current:
        raise changed(layout.table)


def _create(connection: sqlite3.Connection, layout: Layout) -> None:
    connection.execute("INSERT INTO tables VALUES (?, 0, 0, 0, 1, 0)", (layout.table.id,))
    columns = "".join(f", {declared(c)}" for c in layout.columns)
    connection.execute(
        f"CREATE TABLE {layout.rows}"
        f" (rid INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, seq INTEGER NOT NULL{columns})"
    )
    connection.execute(f"CREATE INDEX {layout.rows}_seq ON {layout.rows} (seq)")
    connection.execute(
        f"CREATE TABLE {layout.tombstones}"
        " (seq INTEGER NOT NULL, key BLOB NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (seq, key))"
        " WITHOUT ROWID"
    )


def _stored_columns(connection: sqlite3.Connection, layout: Layout) -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA table_info({layout.rows})")}


def _fit_columns(connection: sqlite3.Connection, layout: Layout) -> None:
    stored = {name for name in _stored_columns(connection, layout) if name.startswith("c_")}
    wanted = {column_name(c): c for c in layout.columns}
    surplus = stored - wanted.keys()
    if surplus:
        _drop_indexes_over(connection, layout, surplus)
    for name in sorted(surplus):
        connection.execute(f"ALTER TABLE {layout.rows} DROP COLUMN {name}")
    for name, column in wanted.items():
        if name not in stored:
            connection.execute(f"ALTER TABLE {layout.rows} ADD COLUMN {declared(column)}")
            _fill_default(connection, layout, column)


def _fill_default(connection: sqlite3.Connection, layout: Layout, column: Column) -> None:
    default = check_default(column)
    if default is not None:
        encode = encoder(column.type)
        value = default if encode is None else encode(default)
        connection.execute(f"UPDATE {layout.rows} SET {column_name(column)} = ?", (value,))


def _indexes(connection: sqlite3.Connection, layout: Layout) -> list[str]:
    names = [row[1] for row in connection.execute(f"PRAGMA index_list({layout.rows})").fetchall()]
    return [name for name in names if name.startswith("i_")]


def _drop_indexes_over(connection: sqlite3.Connection, layout: Layout, columns: set[str]) -> None:
    for name in _indexes(connection, layout):
        if any(row[2] in columns for row in connection.execute(f"PRAGMA index_info({name})").fetchall()):
            connection.execute(f"DROP INDEX {name}")


def _fit_indexes(connection: sqlite3.Connection, layout: Layout) -> None:
    columns = {c.id: column_name(c) for c in layout.columns}
    wanted = {
        index_name(index): columns[index.column]
        for index in layout.table.indexes
        if index.type != "vector" and index.column in columns
    }
    existing = set(_indexes(connection, layout))
    for name in sorted(existing - wanted.keys()):
        connection.execute(f"DROP INDEX {name}")
    for name, column in wanted.items():
        if name not in existing:
            connection.execute(f"CREATE INDEX {name} ON {layout.rows} ({column})")


def _version_tables(connection: sqlite3.Connection, layout: Layout) -> list[tuple[str]]:
    rows = connection.execute("SELECT id FROM versions WHERE table_id = ?", (layout.table.id,))
    return [(cells_name(row[0]),) for row in rows.fetchall()]


def _fit_versions(connection: sqlite3.Connection, layout: Layout) -> None:
    table_id = layout.table.id
    rows = connection.execute("SELECT id FROM versions WHERE table_id = ?", (table_id,)).fetchall()
    stored = {row[0] for row in rows}
    for version in sorted(stored - set(layout.versions)):
        connection.execute(f"DROP TABLE {cells_name(version)}")
        connection.execute("DELETE FROM versions WHERE id = ?", (version,))
    for version in layout.versions:
        if version not in stored:
            _create_cells(connection, version)
            connection.execute("INSERT INTO versions VALUES (?, ?)", (version, table_id))


def _create_cells(connection: sqlite3.Connection, version: str) -> None:
    name = cells_name(version)
    connection.execute(
        f"CREATE TABLE {name} (rid INTEGER PRIMARY KEY, want BLOB, have BLOB, vector BLOB, error TEXT,"
        f" attempts INTEGER NOT NULL DEFAULT 0, seq INTEGER NOT NULL, {_STATE})"
    )
    connection.execute(f"CREATE INDEX {physical('s', version)} ON {name} (seq)")
    # Finds the cells with work to do at once, however many are ready.
    connection.execute(f"CREATE INDEX {physical('p', version)} ON {name} (state) WHERE state <> 'ready'")
