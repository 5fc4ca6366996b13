"""Rows with their cells, from one backend's batch to a write for another's: exactly as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vectable.core.cell import Cell
from vectable.core.key import KeyBytes
from vectable.core.rows import CellWrite, Delete, Guard, Put, RecordBatch, WriteBatch


def copying(
    batch: RecordBatch,
    versions: Mapping[str, str],
    generation: int,
    *,
    deletes: Sequence[KeyBytes] = (),
    revisions: Mapping[KeyBytes, Any] | None = None,
) -> WriteBatch:
    """The write that makes the destination's rows and cells equal those of `batch`, which holds every stored
    column and the versions (by the source's ids; `versions`: the destination's), and removes `deletes`.
    `revisions`: write only over rows that still have them, and elsewhere only where there is none."""
    puts: list[Put] = []
    cells: list[CellWrite] = []
    for i, (key, row) in enumerate(zip(batch.keys, batch.rows(), strict=True)):
        mine = {theirs: batch.cells[ours][i] for ours, theirs in versions.items()}
        guard: Guard = "any" if revisions is None or key in revisions else "absent"
        puts.append(
            Put(
                key,
                row,
                wants={version: cell.want for version, cell in mine.items()},
                vectors={v: c.vector for v, c in mine.items() if _ready(c) and c.vector is not None},
                guard=guard,
                revision=None if revisions is None else revisions.get(key),
            )
        )
        for version, cell in mine.items():
            cells.extend(_rest(key, version, cell))
    known = revisions or {}
    return WriteBatch(
        generation=generation, puts=puts, deletes=[Delete(k, known.get(k)) for k in deletes], cells=cells
    )


def _ready(cell: Cell) -> bool:
    return cell.want is not None and cell.have == cell.want


def _rest(key: KeyBytes, version: str, cell: Cell) -> Iterator[CellWrite]:
    """What a put cannot say of a cell: an outdated vector, errors and how many there were. A cell that is
    there from an earlier attempt is forgotten first."""
    if cell.want is not None and not _ready(cell):
        if cell.have is not None and cell.vector is not None:
            yield CellWrite(key, version, None, set_want=True)
            yield CellWrite(key, version, cell.have, vector=cell.vector, set_want=True)
            yield CellWrite(key, version, cell.want, set_want=True)
        else:
            yield CellWrite(key, version, cell.want, clear=True)
    if cell.error is not None:
        for _ in range(cell.attempts):
            yield CellWrite(key, version, cell.want, error=cell.error)


def weight(batch: RecordBatch) -> int:
    """About how many bytes it holds."""
    total = 0
    for values in batch.columns.values():
        total += sum(len(v) if isinstance(v, (str, bytes)) else 16 for v in values)
    for cells in batch.cells.values():
        total += sum(len(c.vector) for c in cells if c.vector is not None)
    return total
