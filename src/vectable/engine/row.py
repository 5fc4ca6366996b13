"""One row by its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vectable.core.context import Context
from vectable.core.evaluate import matches
from vectable.core.key import Key, KeyBytes, encode_key, url_parts
from vectable.core.predicate import TRUE, Predicate, bind, columns_of, parse_filter
from vectable.core.rows import RecordBatch, Row
from vectable.core.schema import Column, ColumnType, Table
from vectable.core.values import check_int, check_text, check_timestamp
from vectable.engine.search.scan import only
from vectable.engine.search.selection import Selection, compile_selection
from vectable.errors import InvalidInput, RowNotFound


@dataclass(frozen=True, slots=True)
class RowByKey:
    """A row asked for, fitted to a table's definition."""

    table: Table
    key: Any
    encoded: KeyBytes
    selection: Selection
    scope: Predicate

    @classmethod
    def of(cls, context: Context, table: Table, key: Any, select: tuple[str, ...] | None) -> RowByKey:
        """Raises UnknownColumn, InvalidInput."""
        encoded = encode_key(parse_key_value(table, key))
        selection = compile_selection(select, table)
        return cls(table, key, encoded, selection, bind(parse_filter(context.scope), table))

    @property
    def wanted(self) -> tuple[list[KeyBytes], list[str], tuple[str, ...]]:
        """What `View.get` is asked for."""
        columns = dict.fromkeys([*self.selection.columns, *columns_of(self.scope)])
        return [self.encoded], list(columns), self.selection.versions

    def row(self, batch: RecordBatch) -> Row:
        """The row, of what `View.get` gave. Raises RowNotFound, also for one that is not in scope."""
        if not len(batch) or (self.scope != TRUE and not matches(self.scope, next(iter(batch.rows())))):
            raise RowNotFound(f"table {self.table.full_name!r} has no row with the key {_shown(self.key)}")
        return self.selection.rows(only(batch, self.selection.columns))[0]


def parse_key_value(table: Table, key: Any) -> Key:
    """Key parts of the table's types from one part, a list of parts, or text in URL form (split at commas
    only when the key has several parts). Raises InvalidInput."""
    columns = table.key_columns
    if isinstance(key, str):
        parts: list[Any] = [key] if len(columns) == 1 else list(url_parts(key))
    else:
        parts = list(key) if isinstance(key, (list, tuple)) else [key]
    if len(parts) != len(columns):
        names = ", ".join(c.name for c in columns)
        raise InvalidInput(
            f"the key has {len(columns)} part{'s' * (len(columns) > 1)}, {len(parts)} were given",
            hint=f"key: {names}",
        )
    return tuple(_key_part(column, part) for column, part in zip(columns, parts, strict=True))


def _key_part(column: Column, part: Any) -> Any:
    try:
        if column.type is ColumnType.INT:
            return check_int(int(part) if isinstance(part, str) else part)
        return check_timestamp(part) if column.type is ColumnType.TIMESTAMP else check_text(part)
    except ValueError:
        raise InvalidInput(
            f"{part[:40]!r} is not an integer", hint=f"the key {column.name!r} is an int"
        ) from None


def _shown(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= 100 else text[:100] + "…"
