"""What a table's rows and cells should be after a write: plain dictionaries, written down a second time, on
purpose without the core's own transitions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from vectable.core.rows import CellWrite, Delete, Put


@dataclass(frozen=True)
class ModelCell:
    """A cell."""

    want: bytes | None = None
    have: bytes | None = None
    vector: bytes | None = None
    error: str | None = None
    attempts: int = 0

    def told(self, want: bytes | None) -> ModelCell:
        if want == self.want:
            return self
        if want is None:
            return ModelCell()
        return ModelCell(want, self.have, self.vector, None, 0)


@dataclass(frozen=True)
class ModelRow:
    stars: int
    serial: int
    """Of the put that made it: stands for the revision."""
    cells: dict[str, ModelCell] = field(default_factory=dict)


Rows = dict[str, ModelRow]


@dataclass(frozen=True)
class Step:
    """One document of a batch, and what it does to the model."""

    request: Put | Delete | CellWrite
    key: str
    stars: int = 0
    serial: int = 0
    expects: int | None = None
    """The serial a revision in the request stands for."""

    def apply(self, rows: Rows) -> Rows:
        old = rows.get(self.key)
        if isinstance(self.request, Delete):
            return {k: r for k, r in rows.items() if k != self.key}
        if isinstance(self.request, CellWrite):
            return self._cell(rows, old, self.request)
        if self.expects is not None and (old is None or old.serial != self.expects):
            return rows
        if old is not None and self.request.guard == "skip":
            return rows
        cells = {} if old is None else dict(old.cells)
        for version, want in self.request.wants.items():
            cells[version] = cells.get(version, ModelCell()).told(want)
        for version, vector in self.request.vectors.items():
            if (want := cells[version].want) is not None:
                cells[version] = ModelCell(want, want, vector)
        return {**rows, self.key: ModelRow(self.stars, self.serial, cells)}

    def _cell(self, rows: Rows, old: ModelRow | None, write: CellWrite) -> Rows:
        if old is None or (self.expects is not None and old.serial != self.expects):
            return rows
        cell = old.cells.get(write.version, ModelCell())
        if write.set_want:
            cell = cell.told(write.want)
        elif cell.want != write.want:
            return rows
        if write.clear:
            cell = ModelCell(want=cell.want)
        if write.vector is not None and cell.want is not None:
            cell = ModelCell(cell.want, cell.want, write.vector)
        if write.error is not None:
            cell = dataclasses.replace(cell, error=write.error, attempts=cell.attempts + 1)
        return {**rows, self.key: dataclasses.replace(old, cells={**old.cells, write.version: cell})}
