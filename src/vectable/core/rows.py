"""Rows on their way in and out: batches of columns, checked values, write batches and their receipts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vectable.core.cell import Cell
from vectable.core.key import KeyBytes
from vectable.core.mark import Mark

Value = Any
"""str, int, float, bool, datetime (UTC), JSON, list, bytes, or None, by the column's type."""
Row = dict[str, Value]

Guard = Literal["absent", "skip", "any"]
"""What a put does when the key exists: fail the whole batch, leave the row alone, or replace it."""
OnConflict = Literal["error", "replace", "skip"]
"""What an insert does with a row whose key exists: refuse them all, replace it, or leave it alone."""
Outcome = Literal["inserted", "replaced", "skipped", "deleted", "missing", "changed"]
"""`changed`: a guarded revision no longer held, nothing was written for that key."""


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Some rows, by column. `revisions` are opaque tokens for guarded writes; `cells` by version id."""

    keys: Sequence[KeyBytes]
    columns: Mapping[str, Sequence[Value]]
    revisions: Sequence[Any]
    cells: Mapping[str, Sequence[Cell]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self) -> Iterator[Row]:
        """Each row as a dict of the batch's columns."""
        names = list(self.columns)
        if not names:
            return iter([{} for _ in self.keys])
        return (dict(zip(names, values, strict=True)) for values in zip(*self.columns.values(), strict=True))

    def take(self, positions: Sequence[int]) -> RecordBatch:
        """The rows at `positions`, in that order."""
        return RecordBatch(
            [self.keys[i] for i in positions],
            {name: [values[i] for i in positions] for name, values in self.columns.items()},
            [self.revisions[i] for i in positions],
            {version: [cells[i] for i in positions] for version, cells in self.cells.items()},
        )


@dataclass(frozen=True, slots=True)
class Put:
    """A whole row to store: a stored column left out of `values` is null. `wants`: content key by version id
    (None: nothing to embed, the vector is dropped); the same want again keeps the cell, another one keeps its
    old vector (stale) and forgets its error; a version left out keeps its cell as it is. `vectors`: stored
    bytes that already satisfy the want, by version id.
    `revision`: when given, the row must still have it (else outcome `changed`). Every put that lands gives
    the row a revision it never had before; writes to its cells leave the revision alone."""

    key: KeyBytes
    values: Mapping[str, Value]
    wants: Mapping[str, bytes | None] = field(default_factory=dict)
    vectors: Mapping[str, bytes] = field(default_factory=dict)
    guard: Guard = "any"
    revision: Any = None


@dataclass(frozen=True, slots=True)
class Delete:
    """A row to remove; `revision` as in `Put`."""

    key: KeyBytes
    revision: Any = None


@dataclass(frozen=True, slots=True)
class CellWrite:
    """A vector (or an error) for one cell, written only where the row exists and still wants `want`.
    `want` given with `set_want` makes the cell want it first (backfill of a new version). A vector that lands
    makes `have` = `want` and forgets the error and its attempts; an error counts one more attempt."""

    key: KeyBytes
    version: str
    want: bytes | None
    vector: bytes | None = None
    error: str | None = None
    set_want: bool = False
    clear: bool = False
    """Forget vector and error, so that the cell is embedded again (forced refresh)."""
    revision: Any = None
    """When given, the row must still have it, else the write does not land: with `set_want`, what keeps a
    backfill from putting the want of an old row over that of a newer one."""

    def onto(self, cell: Cell) -> Cell | None:
        """The cell after this write; None where it wants something else by now, so that nothing lands."""
        if self.set_want:
            cell = cell.wanting(self.want)
        elif cell.want != self.want:
            return None
        if self.clear:
            cell = cell.cleared()
        if self.vector is not None:
            cell = cell.given(self.vector)
        return cell if self.error is None else cell.failed(self.error)


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """Changes, made in the order puts, deletes, cells. They land together where the backend can
    (`Capabilities.atomic_batch`), else row by row with `receipts` last. `generation`: of the definition the
    batch was made by; another one: StaleGeneration."""

    generation: int
    puts: Sequence[Put] = ()
    deletes: Sequence[Delete] = ()
    cells: Sequence[CellWrite] = ()
    receipts: Mapping[str, bytes] = field(default_factory=dict)
    """Idempotency key → answer to give again."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a write did: the mark that includes it, one outcome per put then per delete, and how many cell
    writes landed. `durable` once returned."""

    mark: Mark
    outcomes: Sequence[Outcome] = ()
    cells_written: int = 0


@dataclass(slots=True)
class InsertResult:
    """What an insert did. `ids` in the order of the rows given. `pending` cells are embedded by `job` (None:
    nothing is left to do); `errors` cells could not be embedded and keep their error."""

    ids: list[Any] = field(default_factory=list)
    inserted: int = 0
    replaced: int = 0
    skipped: int = 0
    pending: int = 0
    errors: int = 0
    job: str | None = None

    def add(self, other: InsertResult) -> None:
        """Adds another batch's counts and ids."""
        self.ids.extend(other.ids)
        self.inserted += other.inserted
        self.replaced += other.replaced
        self.skipped += other.skipped
        self.pending += other.pending
        self.errors += other.errors
        self.job = other.job or self.job
