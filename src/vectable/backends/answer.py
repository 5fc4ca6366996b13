"""Answers of SQL engines as record batches: one way from rows to columns and cells, whatever the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from vectable.core.cell import Cell
from vectable.core.evaluate import extract
from vectable.core.key import KeyBytes
from vectable.core.predicate import Target, resolve
from vectable.core.rows import RecordBatch
from vectable.core.schema import ColumnType, Table

Decoder = Callable[[ColumnType], Callable[[Any], Any] | None]
"""How values of a type are read from what is stored; None: they are stored as they are."""
_FIXED = 2
"""Every row starts with key and revision."""
Reader = tuple[str, int, Target]
"""A name, the place in the row that it is read from, what it is."""
CELL_PARTS = ("want", "have", "vector", "error", "attempts")
Asked = tuple[tuple[str, ...], tuple[str, ...]]
"""Columns and versions."""
_EMPTY = Cell()
_REMEMBERED = 128
S = TypeVar("S")


def read_from(
    table: Table, columns: Sequence[str], expression: Callable[[Target], tuple[str, str | None]]
) -> tuple[list[Reader], list[str], list[str]]:
    """What reads `columns`; the SQL of what they are read from, each once, which stands behind key and
    revision; the versions to join for it. `expression` is the SQL for a target, and the version it needs."""
    sources: dict[str, int] = {}
    readers: list[Reader] = []
    versions: list[str] = []
    for name in columns:
        target = resolve(name, table)
        sql, version = expression(target)
        if version is not None:
            versions.append(version)
        readers.append((name, sources.setdefault(sql, _FIXED + len(sources)), target))
    return readers, list(sources), versions


def remembered(
    known: dict[Asked, Any],
    columns: Sequence[str],
    versions: Sequence[str],
    make: Callable[[Sequence[str], Sequence[str]], S],
) -> S:
    """What `make` gives for these columns and versions, made once while it is in `known`."""
    asked = (tuple(columns), tuple(versions))
    found: S | None = known.get(asked)
    if found is None:
        if len(known) >= _REMEMBERED:
            known.clear()
        found = known[asked] = make(*asked)
    return found


class Answer:
    """Rows of key and revision, the values `readers` find, and from `cells_at` on the `CELL_PARTS` of each
    version in `cells`."""

    def __init__(
        self,
        readers: Sequence[Reader],
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

    def asked(self, keys: Sequence[KeyBytes], rows: Iterable[Sequence[Any]]) -> RecordBatch:
        """Those of `keys` that are among the rows, in the order of `keys`. A row without a key is none."""
        found = {row[0]: row for row in rows if row[0] is not None}
        return self.batch([found[key] for key in keys if key in found])

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
