"""What a query selects: what to fetch, and how a fetched row becomes an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from vectable.core.cell import Cell
from vectable.core.evaluate import MISSING
from vectable.core.predicate import error_column, resolve
from vectable.core.rows import RecordBatch, Row
from vectable.core.schema import ColumnType, Table
from vectable.core.vectors import from_bytes


@dataclass(frozen=True, slots=True)
class VectorOutput:
    """A vector column that was named: its active version, and whether outdated vectors are given."""

    version: str
    stale: bool

    def value(self, cell: Cell) -> Any:
        """The vector as float32 (dimensions,), or None."""
        if cell.vector is None or not cell.servable(self.stale):
            return None
        return from_bytes(cell.vector)


@dataclass(frozen=True, slots=True)
class ErrorOutput:
    """What a cell failed with."""

    version: str

    def value(self, cell: Cell) -> str | None:
        """The error of a cell in that state, else None."""
        return cell.error if cell.state == "error" else None


Output: TypeAlias = str | VectorOutput | ErrorOutput


@dataclass(frozen=True, slots=True)
class Selection:
    """`columns` and `versions` are what a View is asked for; `outputs` the answer's fields in order, each a
    fetched name, a vector or a cell's error."""

    columns: tuple[str, ...]
    versions: tuple[str, ...]
    outputs: tuple[tuple[str, Output], ...]
    plain: bool
    """The fetched columns are the answer as they come."""
    shape: str | None = None
    """Names what the answer's rows hold, whatever columns are called later; None where they tell of cells,
    or are not the columns as they come."""

    def rows(self, batch: RecordBatch) -> list[Row]:
        """The answer's rows."""
        if self.plain and len(batch.columns) == len(self.outputs):
            return list(batch.rows())
        fields = [(name, self._values(batch, source)) for name, source in self.outputs]
        return [{name: values[i] for name, values in fields} for i in range(len(batch))]

    def _values(self, batch: RecordBatch, source: Output) -> Sequence[Any]:
        if not isinstance(source, str):
            return [source.value(cell) for cell in batch.cells[source.version]]
        return [None if v is MISSING else v for v in batch.columns[source]]


def compile_selection(select: Sequence[str] | None, table: Table) -> Selection:
    """`select` None or "*" is every stored column; vector columns, JSON paths ("meta.stars"), cell states
    ("emb.state") and cell errors ("emb.error") are selected by name. Raises UnknownColumn, InvalidFilter."""
    outputs: dict[str, Output] = {}
    ids: list[str] = []
    plain = True
    for name in ("*",) if select is None else select:
        if name == "*":
            outputs.update((c.name, c.name) for c in table.stored_columns)
            ids += [c.id for c in table.stored_columns]
            continue
        failing = error_column(name, table)
        if failing is not None:
            outputs[name] = ErrorOutput(failing.version.id)
            plain = False
            continue
        target = resolve(name, table)
        if target.column.type is ColumnType.VECTOR and not target.state:
            outputs[name] = VectorOutput(target.column.version.id, target.column.serves_stale)
            plain = False
        else:
            outputs[name] = target.name
            ids.append("" if target.state else target.column.id)
            plain = plain and name == target.name and not target.path
    sources = outputs.values()
    return Selection(
        tuple(dict.fromkeys(s for s in sources if isinstance(s, str))),
        tuple(dict.fromkeys(s.version for s in sources if not isinstance(s, str))),
        tuple(outputs.items()),
        plain,
        repr([*zip(outputs, dict.fromkeys(ids), strict=True)]) if plain and all(ids) else None,
    )


def row_at(batch: RecordBatch, i: int) -> Mapping[str, Any]:
    """One row of the batch's columns."""
    return {name: values[i] for name, values in batch.columns.items()}
