"""From what users give to rows that may be stored: checked values, keys, stored vectors, wanted contents."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any, NamedTuple

from blake3 import blake3

from vectable.core.cell import GIVEN
from vectable.core.key import KeyBytes, decode_key, encode_key, encode_texts
from vectable.core.recipe import content_key, render
from vectable.core.rows import Guard, OnConflict, Put, Row
from vectable.core.schema import Column, ColumnType, Table
from vectable.core.values import all_kept, check_default, value_check
from vectable.core.vectors import check_vector, stored_arrays, to_bytes
from vectable.engine.definitions import RESERVED
from vectable.errors import InvalidInput, InvalidRow, KeyExists, TooLarge, VectableError, did_you_mean

_ABSENT = object()
_TOGETHER = 64
KeyOut = Any
"""A key as users see it: its one part, or a list of parts."""


class Prepared(NamedTuple):
    """One row ready to be written. `given`: stored vectors by version id, None where the user gave none."""

    key: KeyBytes
    values: Row
    given: Mapping[str, bytes | None]


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

    def rows(self, rows: Sequence[Mapping[str, Any]], make_id: Callable[[int], str]) -> list[Prepared]:
        """Every row as `row` has it, with a look at many vectors at once where they are arrays."""
        prepared: list[Prepared] = []
        for start in range(0, len(rows), _TOGETHER):
            part = rows[start : start + _TOGETHER]
            stored = [(c.version.id, v) for c in self._vectors if (v := self._arrays(part, c)) is not None]
            whole = len(stored) == len(self._vectors)
            if whole and (alike := self._alike(part, stored)) is not None:
                prepared += alike
                continue
            stored = stored if whole else []  # else each is looked at by itself
            for i, row in enumerate(part):
                given = {version: vectors[i] for version, vectors in stored} if stored else None
                prepared.append(self.row(row, start + i, make_id, given))
        return prepared

    def _alike(
        self, rows: Sequence[Mapping[str, Any]], stored: Sequence[tuple[str, Sequence[bytes]]]
    ) -> list[Prepared] | None:
        """All the rows, column by column, where they have the same columns and nothing in them needs to be
        changed; else None."""
        names = rows[0].keys()
        if not names <= self._known or not all(type(row) is dict and row.keys() == names for row in rows):
            return None
        columns: dict[str, list[Any]] = {}
        for column, _, default in self._stored:
            if column.name not in names:
                if default is not None or not column.nullable:
                    return None
                columns[column.name] = [None] * len(rows)
                continue
            values = columns[column.name] = [row[column.name] for row in rows]
            if not all_kept(column.type, values) or (not column.nullable and None in values):
                return None
        parts = [columns[name] for name in self._key_names]
        try:
            text = len(parts) == 1 and self.table.key_columns[0].type is ColumnType.STRING
            keys = encode_texts(parts[0]) if text else list(map(encode_key, zip(*parts, strict=True)))
        except InvalidInput:
            return None
        of_rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        versions = [version for version, _ in stored]
        vectors = zip(*(found for _, found in stored), strict=True) if stored else repeat((), len(rows))
        given = (dict(zip(versions, found, strict=True)) for found in vectors)
        return list(map(Prepared, keys, of_rows, given))

    @staticmethod
    def _arrays(rows: Sequence[Mapping[str, Any]], column: Column) -> list[bytes] | None:
        if not all(isinstance(row, Mapping) for row in rows):
            return None
        values = [row.get(column.name) for row in rows]
        return stored_arrays(values, column.version.dimensions, column.version.metric)

    def row(
        self,
        row: Mapping[str, Any],
        position: int,
        make_id: Callable[[int], str],
        given: Mapping[str, bytes | None] | None = None,
    ) -> Prepared:
        """Raises InvalidRow or TooLarge, naming the row's position and the column. `given`: the vectors'
        stored forms, where they are known already."""
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
        if given is None:
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


def wanted(table: Table, rows: Sequence[Prepared]) -> list[dict[str, bytes | None]]:
    """The content key each row wants, by version id, for every live version; GIVEN for a vector the user
    gave, None where there is nothing to embed."""
    defaults = {c.name: check_default(c) for c in table.stored_columns if c.default is not None}
    wants: list[dict[str, bytes | None]] = [
        {version: None if vector is None else GIVEN for version, vector in row.given.items()} for row in rows
    ]
    for column, version in table.versions:
        if column.embedding is None:
            continue
        for row, want in zip(rows, wants, strict=True):
            content = render(column.embedding.template, row.values, defaults)
            want[version.id] = (
                None if content is None else content_key(version.identity or "", version.prompt, content)
            )
    return wants


def key_out(key: KeyBytes) -> KeyOut:
    """The key as users see it."""
    parts = decode_key(key)
    return parts[0] if len(parts) == 1 else list(parts)


def checked_rows(
    table: Table, rows: Sequence[Mapping[str, Any]], make_id: Callable[[int], str]
) -> tuple[list[Prepared], list[dict[str, bytes | None]]]:
    """Rows ready to be written, and what each wants embedded. Raises InvalidRow."""
    check = row_check(table)
    prepared = check.rows(rows, make_id)
    return prepared, wanted(table, prepared)


def one_per_key(rows: Sequence[Prepared], on_conflict: OnConflict) -> tuple[list[int], int]:
    """Positions to write when a key comes twice in one call (the last under replace, the first under skip),
    and how many were left out. Raises KeyExists under error."""
    positions: dict[KeyBytes, int] = {}
    for position, row in enumerate(rows):
        if row.key in positions:
            if on_conflict == "error":
                raise KeyExists(
                    f"row {position} has the key of row {positions[row.key]}",
                    hint="give each row its own key, or on_conflict replace or skip",
                    context={"row": position, "keys": [str(key_out(row.key))]},
                )
            if on_conflict == "skip":
                continue
        positions[row.key] = position
    return list(positions.values()), len(rows) - len(positions)


def put_of(
    row: Prepared, wants: Mapping[str, bytes | None], cached: Mapping[tuple[str, bytes], bytes], guard: Guard
) -> Put:
    """The write of one row, with the vectors that are known already, by version id and content key."""
    vectors = {v: vector for v, vector in row.given.items() if vector is not None and v in wants}
    if cached:
        for version, want in wants.items():
            if want is not None and want != GIVEN and (version, want) in cached:
                vectors[version] = cached[version, want]
    return Put(row.key, row.values, wants, vectors, guard)


def is_open(put: Put) -> bool:
    """Whether some cell may still have to be embedded."""
    return any(want is not None and version not in put.vectors for version, want in put.wants.items())
