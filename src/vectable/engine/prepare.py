"""From what users give to rows that may be stored: checked values, keys, stored vectors."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from blake3 import blake3

from vectable.core.key import KeyBytes, encode_key, encode_texts
from vectable.core.puts import StoredVectors
from vectable.core.rows import Row
from vectable.core.schema import Column, ColumnType, Table
from vectable.core.values import all_kept, check_default, value_check
from vectable.core.vectors import check_vector, fill_rows, to_bytes
from vectable.engine.definitions import RESERVED
from vectable.errors import InvalidInput, InvalidRow, TooLarge, VectableError, did_you_mean

_ABSENT = object()
_TOGETHER = 128
_YIELDED_S = 20e-6
"""A thread that asks for the interpreter gets it after 5 ms, or when the one that has it waits for something.
Each statement of a bulk load would wait so long, and there are several to a batch."""


class Prepared(NamedTuple):
    """One row ready to be written. `given`: stored vectors by version id, None where the user gave none."""

    key: KeyBytes
    values: Row
    given: Mapping[str, bytes | None]


class PreparedColumns(NamedTuple):
    """Rows ready to be written, by column: every stored one by name, and the vectors the user gave by version
    id."""

    keys: list[KeyBytes]
    columns: dict[str, list[Any]]
    given: dict[str, StoredVectors]

    def take(self, positions: Sequence[int]) -> PreparedColumns:
        """Those at `positions`, in that order."""
        return PreparedColumns(
            [self.keys[i] for i in positions],
            {name: [values[i] for i in positions] for name, values in self.columns.items()},
            {version: vectors.take(positions) for version, vectors in self.given.items()},
        )


class RowCheck:
    """Checks rows against one generation of a table. Thread-safe."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._key_names = [c.name for c in table.key_columns]
        self._generated = self._key_names == ["id"] and table.key_columns[0].type is ColumnType.STRING
        self._stored = [(c, value_check(c.type), check_default(c)) for c in table.stored_columns]
        self._vectors = [c for c in table.vector_columns if c.embedding is None]
        self._computed = {c.name for c in table.vector_columns if c.embedding is not None}
        self._known = frozenset(c.name for c in table.columns) - self._computed

    def rows(
        self, rows: Sequence[Mapping[str, Any]], make_id: Callable[[int], str], *, yields: bool = False
    ) -> PreparedColumns:
        """Every row as `row` has it, with a look at many at once where nothing is wrong with them. `yields`:
        on a thread beside an event loop's, which gets the interpreter in between."""
        given = {c.version.id: StoredVectors.room(len(rows), c.version.dimensions) for c in self._vectors}
        into = PreparedColumns([], {column.name: [] for column, _, _ in self._stored}, given)
        for start in range(0, len(rows), _TOGETHER):
            if yields:
                time.sleep(_YIELDED_S)
            part = rows[start : start + _TOGETHER]
            if self._together(part, start, make_id, into):
                continue
            for position, row in enumerate(part, start):
                one = self.row(row, position, make_id)
                into.keys.append(one.key)
                for name, value in one.values.items():
                    into.columns[name].append(value)
                for version, vector in one.given.items():
                    into.given[version].put(position, vector)
        return into

    def _together(
        self,
        rows: Sequence[Mapping[str, Any]],
        start: int,
        make_id: Callable[[int], str],
        into: PreparedColumns,
    ) -> bool:
        """Adds all the rows, column by column, where every one of them is good; else nothing, and `row` says
        what is wrong with which."""
        given = self._by_column(rows)
        if given is None:
            return False
        columns: dict[str, list[Any]] = {}
        for column, check, default in self._stored:
            values = given.get(column.name) or [_ABSENT] * len(rows)
            if self._generated and column.name == "id":
                values = [
                    make_id(position) if value is _ABSENT or value is None else value
                    for position, value in enumerate(values, start)
                ]
            kept = _kept(column, check, default, values)
            if kept is None:
                return False
            columns[column.name] = kept
        parts = [columns[name] for name in self._key_names]
        try:
            text = len(parts) == 1 and self.table.key_columns[0].type is ColumnType.STRING
            keys = encode_texts(parts[0]) if text else list(map(encode_key, zip(*parts, strict=True)))
        except InvalidInput:
            return False
        for column in self._vectors:
            values = given.get(column.name) or [None] * len(rows)
            if not _fill(into.given[column.version.id], start, column, values):
                return False
        into.keys.extend(keys)
        for name, kept in columns.items():
            into.columns[name].extend(kept)
        return True

    def _by_column(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]] | None:
        """What the rows hold, by column; None where one is no mapping or has a column the table has not."""
        names = list(rows[0]) if type(rows[0]) is dict else []
        if len(names) > 1 and set(map(type, rows)) == {dict} and set(map(len, rows)) == {len(names)}:
            try:
                found = list(map(itemgetter(*names), rows))
            except KeyError:
                pass  # as many columns, but not the same
            else:
                if not self._known.issuperset(names):
                    return None
                return dict(zip(names, map(list, zip(*found, strict=True)), strict=True))
        if not all(isinstance(row, Mapping) for row in rows):
            return None
        named = set().union(*rows)
        if not named <= self._known:
            return None
        return {name: [row.get(name, _ABSENT) for row in rows] for name in named}

    def row(
        self,
        row: Mapping[str, Any],
        position: int,
        make_id: Callable[[int], str],
    ) -> Prepared:
        """Raises InvalidRow or TooLarge, naming the row's position and the column."""
        if not isinstance(row, Mapping):
            raise InvalidRow(
                f"row {position} is a {type(row).__name__}, not an object", context={"row": position}
            )
        if not row.keys() <= self._known:
            self._refuse_unknown(row, position)
        values: Row = {}
        for column, check, default in self._stored:
            value = row.get(column.name, _ABSENT)
            if value is _ABSENT or value is None:
                values[column.name] = self._absent(column, value, default, position, make_id)
                continue
            try:
                values[column.name] = check(value)
            except (InvalidInput, TooLarge) as error:
                raise _bad(position, column, error) from None
        given = {c.version.id: self._vector(row.get(c.name), c, position) for c in self._vectors}
        try:
            key = encode_key(tuple(map(values.__getitem__, self._key_names)))
        except InvalidInput as error:
            names = ", ".join(self._key_names)
            raise InvalidRow(
                f"row {position}, key {names}: {error.detail}",
                hint=error.hint,
                context={"row": position, "column": self._key_names[0]},
            ) from None
        return Prepared(key, values, given)

    def _absent(
        self, column: Column, value: object, default: Any, position: int, make_id: Callable[[int], str]
    ) -> Any:
        if self._generated and column.name == "id":
            return make_id(position)
        if value is _ABSENT and default is not None:
            return default
        if column.nullable:
            return None
        given = "missing" if value is _ABSENT else "null"
        raise InvalidRow(
            f"row {position}: column {column.name!r} is {given}, and may not be null",
            hint=_no_null(self.table, column),
            context={"row": position, "column": column.name},
        )

    def _vector(self, value: Any, column: Column, position: int) -> bytes | None:
        if value is None:
            if not column.nullable:
                raise InvalidRow(
                    f"row {position}: column {column.name!r} may not be null",
                    hint=_no_null(self.table, column),
                    context={"row": position, "column": column.name},
                )
            return None
        try:
            return to_bytes(check_vector(value, column.version.dimensions, column.version.metric))
        except InvalidInput as error:
            raise _bad(position, column, error) from None

    def _refuse_unknown(self, row: Mapping[str, Any], position: int) -> None:
        name = next(n for n in row if n not in self._known)
        if name in self._computed:
            raise InvalidRow(
                f"row {position}: column {name!r} is computed",
                hint="leave it out; it is filled from its source",
                context={"row": position, "column": name},
            )
        measure = name in RESERVED
        raise InvalidRow(
            f"row {position}: table {self.table.full_name!r} has no column {name!r}",
            hint="leave it out: it is what a search says about a row, not part of it"
            if measure
            else did_you_mean(str(name), self._known, "columns"),
            context={"row": position, "column": str(name)},
        )


def _kept(
    column: Column, check: Callable[[object], Any], default: Any, values: list[Any]
) -> list[Any] | None:
    """The kept forms of a stored column's values, `_ABSENT` among them; None where one is not good."""
    if not all_kept(column.type, values):
        try:
            values = [
                default if value is _ABSENT else None if value is None else check(value) for value in values
            ]
        except (InvalidInput, TooLarge):
            return None
    return None if not column.nullable and None in values else values


def _fill(vectors: StoredVectors, start: int, column: Column, values: list[Any]) -> bool:
    """Puts the stored forms of a column's values where they belong, from `start` on; False where one is not
    good."""
    dimensions, metric = column.version.dimensions, column.version.metric
    if fill_rows(vectors.matrix[start : start + len(values)], values, metric):
        return True
    for position, value in enumerate(values, start):
        if value is None or value is _ABSENT:
            if not column.nullable:
                return False
            vectors.put(position, None)
            continue
        try:
            vectors.matrix[position] = check_vector(value, dimensions, metric)
        except InvalidInput:
            return False
    return True


class _Definition:
    """Makes a definition a cache key. The generation alone is not enough: after a restore it comes again."""

    __slots__ = ("table",)

    def __init__(self, table: Table) -> None:
        self.table = table

    def __hash__(self) -> int:
        return hash((self.table.id, self.table.generation))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Definition) and (other.table is self.table or other.table == self.table)


def row_check(table: Table) -> RowCheck:
    """The check of this generation of the table."""
    return _row_check(_Definition(table))


@lru_cache(maxsize=256)
def _row_check(definition: _Definition) -> RowCheck:
    return RowCheck(definition.table)


def _no_null(table: Table, column: Column) -> str:
    if column.id in table.key:
        return "every row gives its key; only a key `id` of type string is made up"
    return "give it a value" + ("" if column.default is None else ", or leave it out for its default")


def check_assignable(table: Table, values: Mapping[str, Any]) -> None:
    """Raises UnknownColumn, InvalidInput and InvalidRow for what no row of the table may be given."""
    for name, value in values.items():
        column = table.column(name)
        if column.id in table.key:
            raise InvalidInput(
                f"column {name!r} is part of the key and cannot be changed",
                hint="insert the row under its new key, and delete the old one",
            )
        if column.embedding is not None:
            raise InvalidInput(f"column {name!r} is computed", hint="change its source instead")
        if value is None and not column.nullable:
            raise InvalidRow(
                f"column {name!r} may not be null", hint="give it a value", context={"column": name}
            )
        try:
            _check_value(column, value)
        except InvalidInput as error:
            raise InvalidRow(
                f"column {name!r}: {error.detail}", hint=error.hint, context={"column": name, **error.context}
            ) from None


def _check_value(column: Column, value: Any) -> None:
    if value is None:
        return
    if column.type is ColumnType.VECTOR:
        check_vector(value, column.version.dimensions, column.version.metric)
    else:
        value_check(column.type)(value)


def _bad(position: int, column: Column, error: VectableError) -> VectableError:
    kind = TooLarge if isinstance(error, TooLarge) else InvalidRow
    return kind(
        f"row {position}, column {column.name!r}: {error.detail}",
        hint=error.hint,
        context={"row": position, "column": column.name, **error.context},
    )


def ids_for(idempotency_key: str | None) -> Callable[[int], str]:
    """Makes row ids: UUIDv7 (RFC 9562: milliseconds since 1970, then random bits), ascending within a call.
    With an idempotency key they derive from it and the row's position, so a retry makes the same ids."""
    if idempotency_key is not None:
        return lambda position: str(
            uuid.UUID(bytes=_version7(blake3(f"{idempotency_key}\x00{position}".encode()).digest(length=16)))
        )
    milliseconds = time.time_ns() // 1_000_000

    def make(position: int) -> str:
        stamp = (milliseconds + position // 4096).to_bytes(6, "big")
        counter = (position % 4096).to_bytes(2, "big")
        return str(uuid.UUID(bytes=_version7(stamp + counter + uuid.uuid4().bytes[8:])))

    return make


def _version7(raw: bytes) -> bytes:
    marked = bytearray(raw)
    marked[6] = 0x70 | (marked[6] & 0x0F)
    marked[8] = 0x80 | (marked[8] & 0x3F)
    return bytes(marked)
