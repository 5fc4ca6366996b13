"""Where a table's rows and cells lie, and the SQL that reads them by our ids instead of anybody's names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vectable.backends.answer import Asked
from vectable.backends.postgres.values import encoder
from vectable.backends.refusals import gone as gone
from vectable.core.predicate import Target
from vectable.core.rows import Put
from vectable.core.schema import Column, ColumnType, Index, Table
from vectable.drivers.postgres.names import ours

KEY, XID, REVISION = "vectable_key", "vectable_xid", "vectable_rev"
"""Columns of ours beside the user's: the row's encoded key (its primary key), the transaction that wrote it
last, its revision."""
_PLAIN = re.compile(r"[0-9a-z]{1,48}")
_CACHED = 256
_BEGINNING = 300
"""Characters: at most 1,200 bytes, of the 2,700 a btree takes."""


def physical(prefix: str, id_: str) -> str:
    """A name, in need of no quotes, for the thing with that id."""
    if _PLAIN.fullmatch(id_):
        return f"{prefix}_{id_}"
    return f"{prefix}_x{hashlib.sha256(id_.encode()).hexdigest()[:40]}"


def cells_name(version: str) -> str:
    """The table holding one version's cells; also what it is called within a statement."""
    return physical("v", version)


def column_name(column: Column) -> str:
    """What a stored column is called within a statement, whatever the user calls it."""
    return physical("c", column.id)


def index_name(index: Index) -> str:
    """The index over one stored column."""
    return physical("i", index.id)


def beginning(text: str) -> str:
    """SQL: as much of a text as a btree over the column holds. Beginnings are in the order of their texts."""
    return f"left({text}, {_BEGINNING})"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rows of one table are. Everything is SQL, quoted already.

    A table of ours has its rows in `rows`, and `source` is that alone. An attached one has a table of ours
    beside the rows of others: `rows` is ours, `source` both joined. Either way `rows` is called `r` in
    `source`, and has the columns `KEY`, `XID` and `REVISION`."""

    generation: int
    rows: str
    """What writes lock, and where changes are looked for."""
    source: str
    """What stands behind FROM."""
    expressions: Mapping[str, str]
    """By the id of a stored column: its value over `source`, of the type `values.CASTS` says; text must
    compare by COLLATE "C"."""
    tombstones: str
    """Keys of deleted rows: (key bytea, xid xid8, at timestamptz)."""
    versions: frozenset[str]
    """Ids of the versions that have cells, each in a table of its own in our schema."""
    names: Mapping[str, str] | None = None
    """By the id of a stored column: its name in `rows`, unquoted. None where the rows are not ours to
    write."""
    schema: str = ""
    """Where `rows` is, unquoted."""
    name: str = ""
    """Its name there, unquoted."""
    moved: str | None = None
    """Of an attached table: whether its owner has changed what a row is embedded from, unnoticed so far."""
    told: Sequence[str] = ()
    """Of an attached table: further SELECTs of keys that have changed since the snapshot `$1`."""
    queue: str | None = None
    """Of an attached table: where its changes wait to be noticed."""


class Layout:
    """Names and statements for one definition of a table at one place."""

    def __init__(self, table: Table, place: Place) -> None:
        self.table = table
        self.place = place
        self.columns = table.stored_columns
        self.versions = [version.id for _, version in table.versions]
        self.selections: dict[Asked, Any] = {}
        """Prepared by `select`, by what is asked for."""

    @property
    def missing(self) -> list[str]:
        """Names of columns and ids of versions of the definition that are not stored."""
        columns = [c.name for c in self.columns if c.id not in self.place.expressions]
        return columns + [v for v in self.versions if v not in self.place.versions]

    @cached_property
    def rows(self) -> str:
        """The rows as FROM takes them, called `t`: columns `key`, `xid`, `rev`, and `column_name` of each."""
        expressions = self.place.expressions
        columns = "".join(
            f", {expressions[c.id]} AS {column_name(c)}" for c in self.columns if c.id in expressions
        )
        fixed = f"r.{KEY} AS key, r.{XID} AS xid, r.{REVISION} AS rev"
        if self.place.moved is not None:
            fixed += f", {self.place.moved} AS moved"
        return f"(SELECT {fixed}{columns} FROM {self.place.source}) AS t"

    def want(self, version: str) -> str:
        """What a cell is read to want, over `rows` and the version's cells: something else where a change is
        yet to be noticed, so that nobody takes its vector for current."""
        want = f"{cells_name(version)}.want"
        if self.place.moved is None:
            return want
        return f"CASE WHEN t.moved AND {want} IS NOT NULL THEN '\\x00'::bytea ELSE {want} END"

    def joined(self, versions: Sequence[str]) -> str:
        """FROM with the rows and, where they have any, their cells of `versions`."""
        parts = [f"FROM {self.rows}"]
        for version in dict.fromkeys(versions):
            cells = cells_name(version)
            parts.append(f"LEFT JOIN {ours(cells)} AS {cells} ON {cells}.key = t.key")
        return " ".join(parts)

    def encode(self, puts: Sequence[Put]) -> list[tuple[Any, ...]]:
        """The stored columns' values of each put, null for what it leaves out."""
        names = [c.name for c in self.columns]
        converted = [(i, e) for i, c in enumerate(self.columns) if (e := encoder(c.type)) is not None]
        encoded = []
        for put in puts:
            values = list(map(put.values.get, names))
            for position, convert in converted:
                if values[position] is not None:
                    values[position] = convert(values[position])
            encoded.append(tuple(values))
        return encoded


def expression(target: Target) -> tuple[str, str | None]:
    """SQL for what a target stores (a path: the JSON it is in), and the version to join for it. The same at
    every place, so that a filter can be compiled before anybody knows where the rows are."""
    column = target.column
    if column.type is not ColumnType.VECTOR:
        return f"t.{column_name(column)}", None
    version = column.active
    if version is None:
        raise gone(f"column {column.name!r}")
    cells = cells_name(version)
    return (f"coalesce({cells}.state, 'empty')" if target.state else f"{cells}.vector"), version


class Layouts:
    """Places as last seen, and layouts by definition, so that statements are put together once."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._known: dict[str, Layout] = {}

    def place(self, table_id: str) -> Place | None:
        """Where the rows of the table were last seen."""
        return self._places.get(table_id)

    def forget(self, table_id: str) -> None:
        """The table has moved, or gone."""
        self._places.pop(table_id, None)

    def of(self, table: Table, place: Place) -> Layout:
        """The layout of `table` at `place`, remembered."""
        known = self._known.get(table.id)
        same = known is not None and (known.table is table or known.table == table)
        if known is not None and same and (known.place is place or known.place == place):
            return known
        if len(self._known) >= _CACHED:
            self._known.clear()
            self._places.clear()
        self._places[table.id] = place
        layout = self._known[table.id] = Layout(table, place)
        return layout
