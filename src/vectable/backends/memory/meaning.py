"""What reading and writing mean, on rows held as plain Python objects: one function per notion."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from vectable.backends.refusals import key_exists as key_exists
from vectable.core.cell import Cell
from vectable.core.evaluate import matches, order_key, value_of
from vectable.core.key import KeyBytes
from vectable.core.predicate import Predicate, columns_of, resolve
from vectable.core.query import OrderTerm
from vectable.core.rows import CellWrite, Put, RecordBatch
from vectable.core.schema import Column, ColumnType, Table, Version
from vectable.core.vectors import Vector, distances, stack
from vectable.errors import StaleGeneration
from vectable.interfaces import Position

Keep = Callable[[KeyBytes, "StoredRow"], bool]
"""Whether a read considers a row."""


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One row with its cells. `values` by column id, `cells` by version id; `revision` is the row's own,
    `moved` the table's clock when row or cells last changed. Never mutated."""

    values: Mapping[str, Any]
    cells: Mapping[str, Cell]
    revision: int
    moved: int


def put_cells(cells: Mapping[str, Cell], put: Put) -> dict[str, Cell]:
    """A row's cells after `put`."""
    result = dict(cells)
    for version, want in put.wants.items():
        result[version] = result.get(version, Cell()).wanting(want)
    for version, vector in put.vectors.items():
        result[version] = result.get(version, Cell()).given(vector)
    return result


def write_cell(row: StoredRow, write: CellWrite) -> Cell | None:
    """The cell after `write`; None when the write does not land on this row."""
    if write.revision is not None and write.revision != row.revision:
        return None
    return write.onto(row.cells.get(write.version, Cell()))


def stored_values(table: Table, put: Put) -> dict[str, Any]:
    """A put's values by column id, null for every stored column left out; lists and objects are copied."""
    return {c.id: copy.deepcopy(put.values.get(c.name)) for c in table.stored_columns}


def row_values(table: Table, row: StoredRow, names: Sequence[str]) -> dict[str, Any]:
    """What `names` (columns, paths, states, vector columns) hold in `row`; a path that leads nowhere is
    MISSING. Raises StaleGeneration when the row's table no longer has the column."""
    found: dict[str, Any] = {}
    for name in names:
        target = resolve(name, table)
        if target.column.type is ColumnType.VECTOR:
            cell = row.cells.get(target.column.active or "", Cell())
            found[name] = cell.state if target.state else cell.vector
        elif target.column.id not in row.values:
            raise StaleGeneration(f"column {target.column.name!r} is gone", hint="read the definition again")
        else:
            value = row.values[target.column.id]
            found[name] = value_of(name, {target.column.name: value}) if target.path else value
    return found


def check_held(
    table: Table,
    names: Sequence[str],
    versions: Sequence[str],
    held_columns: Collection[str],
    held_versions: Collection[str],
) -> None:
    """Raises StaleGeneration when storage no longer holds a column or a version that is asked for."""
    columns = [resolve(name, table).column for name in names]
    wanted = {c.id for c in columns if c.type is not ColumnType.VECTOR}
    if not (wanted <= set(held_columns) and set(versions) <= set(held_versions)):
        raise StaleGeneration("part of this definition is gone", hint="read the definition again")


def refitted(row: StoredRow, defaults: Mapping[str, Any], versions: Collection[str]) -> StoredRow:
    """`row` with the columns of `defaults` (by id; new ones get the default) and the cells of `versions`."""
    values = {i: row.values.get(i, copy.deepcopy(default)) for i, default in defaults.items()}
    return replace(row, values=values, cells={v: c for v, c in row.cells.items() if v in versions})


def row_matches(table: Table, where: Predicate, row: StoredRow) -> bool:
    """Whether `where` holds for `row`: the meaning of a filter."""
    return matches(where, row_values(table, row, sorted(columns_of(where))))


def make_batch(
    table: Table,
    rows: Sequence[tuple[KeyBytes, StoredRow]],
    columns: Sequence[str],
    versions: Sequence[str],
) -> RecordBatch:
    """`rows` as a record batch; lists and objects are copied, so that nobody can change what is stored."""
    values = [row_values(table, row, columns) for _, row in rows]
    return RecordBatch(
        [key for key, _ in rows],
        {name: [copy.deepcopy(found[name]) for found in values] for name in columns},
        [row.revision for _, row in rows],
        {version: [row.cells.get(version, Cell()) for _, row in rows] for version in versions},
    )


def sorted_rows(
    table: Table,
    rows: Mapping[KeyBytes, StoredRow],
    keep: Keep,
    order: Sequence[OrderTerm],
    after: Position | None,
    limit: int | None,
) -> list[tuple[KeyBytes, StoredRow]]:
    """The first `limit` of the rows to keep, in order, from behind `after` on."""
    if not order:
        keys = sorted(key for key in rows if after is None or key > after.key)
        return list(islice(((key, rows[key]) for key in keys if keep(key, rows[key])), limit))
    names = [term.column for term in order]
    placed = []
    for key, row in rows.items():
        if keep(key, row):
            values = row_values(table, row, names)
            placed.append((order_key([values[n] for n in names], order, key), key, row))
    placed.sort(key=lambda found: found[0])
    if after is not None:
        start = order_key(after.values, order, after.key)
        placed = [found for found in placed if found[0] > start]
    return [(key, row) for _, key, row in placed[:limit]]


def column_of(table: Table, version: str) -> Column:
    """The column a version belongs to. Raises StaleGeneration when there is none."""
    for column, live in table.versions:
        if live.id == version:
            return column
    raise StaleGeneration("this version of the column is gone", hint="read the definition again")


def nearest_rows(
    table: Table, rows: Mapping[KeyBytes, StoredRow], keep: Keep, version: Version, vector: Vector
) -> list[KeyBytes]:
    """Keys of every servable row to keep, nearest first, ties by key."""
    stale = column_of(table, version.id).serves_stale
    found: list[tuple[KeyBytes, bytes]] = []
    for key, row in rows.items():
        cell = row.cells.get(version.id, Cell())
        if cell.vector is not None and cell.servable(stale) and keep(key, row):
            found.append((key, cell.vector))
    matrix = stack([stored for _, stored in found], version.dimensions)
    apart = distances(vector, matrix, version.metric).tolist()
    ranked = sorted(zip(apart, (key for key, _ in found), strict=True))
    return [key for _, key in ranked]
