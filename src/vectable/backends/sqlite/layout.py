"""Where a table's rows and cells lie. Physical names are made of ids, never of what users call things."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from vectable.backends.answer import Asked
from vectable.backends.refusals import gone
from vectable.backends.sqlite.values import DECLARED, encoder
from vectable.core.predicate import Target
from vectable.core.rows import Put
from vectable.core.schema import Column, ColumnType, Index, Table

_PLAIN = re.compile(r"[0-9a-z]{1,64}")
_CACHED = 256


def physical(prefix: str, id_: str) -> str:
    """An SQL identifier for the thing with that id. Ids that are not plain are written in hexadecimal."""
    return f"{prefix}_{id_}" if _PLAIN.fullmatch(id_) else f"{prefix}_x{id_.encode().hex()}"


def cells_name(version: str) -> str:
    """The table holding one version's cells."""
    return physical("v", version)


def column_name(column: Column) -> str:
    """The column holding a stored column's values."""
    return physical("c", column.id)


def index_name(index: Index) -> str:
    """The index over one stored column."""
    return physical("i", index.id)


class Layout:
    """Names and statements for one definition of a table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows = physical("t", table.id)
        self.tombstones = physical("d", table.id)
        self.columns = table.stored_columns
        self.versions = [version.id for _, version in table.versions]
        self.selections: dict[Asked, Any] = {}
        """Prepared by `select`, by what is asked for."""

    @cached_property
    def insert(self) -> str:
        """Parameters: rid, key, seq, then the stored columns."""
        names = "".join(f", {column_name(c)}" for c in self.columns)
        marks = ", ?" * len(self.columns)
        return f"INSERT INTO {self.rows} (rid, key, seq{names}) VALUES (?, ?, ?{marks})"

    @cached_property
    def update(self) -> str:
        """Parameters: seq, the stored columns, then rid."""
        names = "".join(f", {column_name(c)} = ?" for c in self.columns)
        return f"UPDATE {self.rows} SET seq = ?{names} WHERE rid = ?"

    def encode(self, puts: Sequence[Put]) -> list[tuple[Any, ...]]:
        """The stored columns' values of each put, null for what it leaves out."""
        names = [c.name for c in self.columns]
        converted = [(i, e) for i, c in enumerate(self.columns) if (e := encoder(c.type)) is not None]
        if not converted:
            return [tuple(map(put.values.get, names)) for put in puts]
        encoded = []
        for put in puts:
            values = list(map(put.values.get, names))
            for position, convert in converted:
                if values[position] is not None:
                    values[position] = convert(values[position])
            encoded.append(tuple(values))
        return encoded

    def expression(self, target: Target) -> tuple[str, str | None]:
        """SQL for what a target stores (a path: the JSON text it is in), and the version to join for it."""
        column = target.column
        if column.type is not ColumnType.VECTOR:
            return f"t.{column_name(column)}", None
        version = column.active
        if version is None:
            raise gone(f"column {column.name!r}")
        cells = cells_name(version)
        return (f"coalesce({cells}.state, 'empty')" if target.state else f"{cells}.vector"), version


class Layouts:
    """Layouts by definition, so that statements are put together once."""

    def __init__(self) -> None:
        self._known: dict[str, Layout] = {}

    def of(self, table: Table) -> Layout:
        """The layout of `table`. Thread-safe: at worst two threads make the same one."""
        known = self._known.get(table.id)
        if known is not None:
            if known.table is table:
                return known
            if known.table == table:
                # The newest object is kept: comparing equal definitions costs more than a small statement.
                known.table = table
                return known
        if len(self._known) >= _CACHED:
            self._known.clear()
        layout = self._known[table.id] = Layout(table)
        return layout


def declared(column: Column) -> str:
    """A stored column as CREATE TABLE and ADD COLUMN take it."""
    return f"{column_name(column)} {DECLARED[column.type]}".rstrip()
