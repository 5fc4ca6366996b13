"""What a read asks for, as SQL, and its answer as record batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vectable.backends.sqlite.layout import Layout, cells_name
from vectable.backends.sqlite.values import decoder
from vectable.core.cell import Cell
from vectable.core.evaluate import extract
from vectable.core.key import KeyBytes
from vectable.core.predicate import Target, resolve
from vectable.core.rows import RecordBatch
from vectable.core.schema import ColumnType

SqlRow = tuple[Any, ...]
IN_LIST = 512
"""So many keys at most are looked up by one statement."""
_FIXED = 2
"""Every selection starts with key and revision."""
_CELL_WIDTH = 5
_EMPTY = Cell()
_CACHED = 128


def joins(layout: Layout, versions: Sequence[str], rows: str | None = None) -> str:
    """FROM, with the cells of `versions`. `rows`: what stands in place of the table's rows AS t."""
    parts = [f"FROM {rows or f'{layout.rows} AS t'}"]
    for version in dict.fromkeys(versions):
        cells = cells_name(version)
        parts.append(f"LEFT JOIN {cells} ON {cells}.rid = t.rid")
    return " ".join(parts)


class Selection:
    """Columns and cells to read. `expressions` is the SQL list, `versions` the cells to join for it."""

    def __init__(self, layout: Layout, columns: Sequence[str], versions: Sequence[str]) -> None:
        self.columns = columns
        self.cells = versions
        self.versions: list[str] = list(versions)
        sources: dict[str, int] = {}
        self._readers: list[tuple[str, int, Target]] = []
        for name in columns:
            target = resolve(name, layout.table)
            sql, version = layout.expression(target)
            if version is not None:
                self.versions.append(version)
            self._readers.append((name, sources.setdefault(sql, _FIXED + len(sources)), target))
        expressions = ["t.key", "t.seq", *sources]
        self._cells_at = len(expressions)
        for version in versions:
            cells = cells_name(version)
            expressions += [f"{cells}.{part}" for part in ("want", "have", "vector", "error", "attempts")]
        self.expressions = ", ".join(expressions)

    def batch(self, rows: Sequence[SqlRow]) -> RecordBatch:
        """Rows of `expressions` as a record batch."""
        if not rows:
            none: dict[str, list[Any]] = {name: [] for name in self.columns}
            return RecordBatch([], none, [], {version: [] for version in self.cells})
        fields = list(zip(*rows, strict=True))
        parsed: dict[int, list[Any]] = {}
        columns = {name: _values(fields, at, target, parsed) for name, at, target in self._readers}
        return RecordBatch(fields[0], columns, fields[1], self._cells(fields))

    def _cells(self, fields: Sequence[Sequence[Any]]) -> dict[str, list[Cell]]:
        at, found = self._cells_at, {}
        for version in self.cells:
            parts = zip(*fields[at : at + _CELL_WIDTH], strict=True)
            found[version] = [
                _EMPTY if attempts is None else Cell(w, h, v, e, attempts) for w, h, v, e, attempts in parts
            ]
            at += _CELL_WIDTH
        return found


def _values(
    fields: Sequence[Sequence[Any]], at: int, target: Target, parsed: dict[int, list[Any]]
) -> Sequence[Any]:
    """One column's values. JSON text is parsed once however many paths lead into it."""
    stored = fields[at]
    convert = None if target.state or target.type is ColumnType.VECTOR else decoder(target.type)
    if convert is None:
        return stored
    if not target.path:
        return _converted(stored, convert)
    if at not in parsed:
        parsed[at] = _converted(stored, convert)
    path = target.path
    return [extract(value, path) for value in parsed[at]]


def _converted(stored: Sequence[Any], convert: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else convert(value) for value in stored]


def padded(keys: Sequence[KeyBytes]) -> list[KeyBytes]:
    """The keys, repeated up to a power of two, so that few statements need to be prepared; a repeat adds no
    row."""
    return [*keys, *[keys[0]] * ((1 << (len(keys) - 1).bit_length()) - len(keys))] if keys else []


def selection(layout: Layout, columns: Sequence[str], versions: Sequence[str]) -> Selection:
    """The selection for these columns and versions, made once."""
    asked = (tuple(columns), tuple(versions))
    found: Selection | None = layout.selections.get(asked)
    if found is None:
        if len(layout.selections) >= _CACHED:
            layout.selections.clear()
        found = layout.selections[asked] = Selection(layout, *asked)
    return found
