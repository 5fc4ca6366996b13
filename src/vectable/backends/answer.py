"""Answers of SQL engines as record batches: one way from rows to columns and cells, whatever the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vectable.core.cell import Cell
from vectable.core.evaluate import extract
from vectable.core.predicate import Target
from vectable.core.rows import RecordBatch
from vectable.core.schema import ColumnType

Decoder = Callable[[ColumnType], Callable[[Any], Any] | None]
"""How values of a type are read from what is stored; None: they are stored as they are."""
FIXED = 2
"""Every row starts with key and revision."""
CELL_PARTS = ("want", "have", "vector", "error", "attempts")
_EMPTY = Cell()


class Answer:
    """Rows of key and revision, the values `readers` find (a name, a place in the row, what it is), and from
    `cells_at` on the `CELL_PARTS` of each version in `cells`."""

    def __init__(
        self,
        readers: Sequence[tuple[str, int, Target]],
        cells: Sequence[str],
        cells_at: int,
        decoder: Decoder,
    ) -> None:
        self._readers = readers
        self._cells = cells
        self._cells_at = cells_at
        self._decoder = decoder

    def batch(self, rows: Sequence[Sequence[Any]]) -> RecordBatch:
        """The rows as a record batch."""
        if not rows:
            none: dict[str, list[Any]] = {name: [] for name, _, _ in self._readers}
            return RecordBatch([], none, [], {version: [] for version in self._cells})
        fields = list(zip(*rows, strict=True))
        parsed: dict[int, list[Any]] = {}
        columns = {name: self._values(fields, at, target, parsed) for name, at, target in self._readers}
        return RecordBatch(fields[0], columns, fields[1], self._cells_of(fields))

    def _cells_of(self, fields: Sequence[Sequence[Any]]) -> dict[str, list[Cell]]:
        at, found = self._cells_at, {}
        for version in self._cells:
            parts = zip(*fields[at : at + len(CELL_PARTS)], strict=True)
            found[version] = [
                _EMPTY if attempts is None else Cell(w, h, v, e, attempts) for w, h, v, e, attempts in parts
            ]
            at += len(CELL_PARTS)
        return found

    def _values(
        self, fields: Sequence[Sequence[Any]], at: int, target: Target, parsed: dict[int, list[Any]]
    ) -> Sequence[Any]:
        """One column's values. JSON text is parsed once however many paths lead into it."""
        stored = fields[at]
        as_stored = target.state or target.type is ColumnType.VECTOR
        convert = None if as_stored else self._decoder(target.type)
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
