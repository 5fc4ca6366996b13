"""What a read asks for, as SQL, and its answer as record batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vectable.backends.postgres.layout import Layout, cells_name, expression, gone
from vectable.backends.postgres.values import decoder
from vectable.core.cell import Cell
from vectable.core.evaluate import extract
from vectable.core.predicate import Target, resolve
from vectable.core.rows import RecordBatch
from vectable.core.schema import ColumnType

SqlRow = Sequence[Any]
_FIXED = 2
"""Every selection starts with key and revision."""
_CELL_PARTS = ("want", "have", "vector", "error", "attempts")
_EMPTY = Cell()
_CACHED = 128


class Selection:
    """Columns and cells to read. `expressions` is the SQL list, `width` its length, `versions` the cells to
    join for it."""

    def __init__(self, layout: Layout, columns: Sequence[str], versions: Sequence[str]) -> None:
        self.columns = columns
        self.cells = versions
        self.versions: list[str] = list(versions)
        sources: dict[str, int] = {}
        self._readers: list[tuple[str, int, Target]] = []
        for name in columns:
            target = resolve(name, layout.table)
            if (
                target.column.type is not ColumnType.VECTOR
                and target.column.id not in layout.place.expressions
            ):
                raise gone(f"column {target.column.name!r}")
            sql, version = expression(target)
            if version is not None:
                self.versions.append(version)
            self._readers.append((name, sources.setdefault(sql, _FIXED + len(sources)), target))
        for version in self.versions:
            if version not in layout.place.versions:
                raise gone("a version")
        expressions = ["t.key", "t.rev", *sources]
        self._cells_at = len(expressions)
        for version in versions:
            expressions.append(layout.want(version))
            expressions += [f"{cells_name(version)}.{part}" for part in _CELL_PARTS[1:]]
        self.width = len(expressions)
        self.with_proof: str | None = None
        """The statement of `unchanged`, once it has been put together."""
        self.expressions = ", ".join(f"{sql} AS f{i}" for i, sql in enumerate(expressions))

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
            parts = zip(*fields[at : at + len(_CELL_PARTS)], strict=True)
            found[version] = [
                _EMPTY if attempts is None else Cell(w, h, v, e, attempts) for w, h, v, e, attempts in parts
            ]
            at += len(_CELL_PARTS)
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


def selection(layout: Layout, columns: Sequence[str], versions: Sequence[str]) -> Selection:
    """The selection for these columns and versions, made once. Raises StaleGeneration for what is not
    stored."""
    asked = (tuple(columns), tuple(versions))
    found: Selection | None = layout.selections.get(asked)
    if found is None:
        if len(layout.selections) >= _CACHED:
            layout.selections.clear()
        found = layout.selections[asked] = Selection(layout, *asked)
    return found
