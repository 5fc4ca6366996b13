"""The memory backend: tables as dictionaries. A write builds new ones and swaps them in, so a view is simply
the old ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from vectable.backends.memory.meaning import (
    Keep,
    StoredRow,
    check_held,
    key_exists,
    make_batch,
    nearest_rows,
    put_cells,
    refitted,
    row_matches,
    sorted_rows,
    stored_values,
    write_cell,
)
from vectable.backends.refusals import changed, not_found
from vectable.core.cell import CELL_STATES, Cell
from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.predicate import TRUE, Predicate
from vectable.core.query import OrderTerm
from vectable.core.rows import CellWrite, Delete, Outcome, Put, Receipt, RecordBatch, WriteBatch
from vectable.core.schema import Table, Version, new_id
from vectable.core.values import check_default
from vectable.core.vectors import Vector
from vectable.errors import MarkExpired, Unsupported
from vectable.interfaces import Candidates, Capabilities, Noted, Position, Pushed, SchemaChange

BATCH = 1_000


@dataclass(slots=True)
class StoredTable:
    """One table's storage. `clock` counts batches; a mark is `epoch` and a clock. Tombstones by key."""

    generation: int
    columns: frozenset[str]
    versions: frozenset[str]
    epoch: str = field(default_factory=new_id)
    clock: int = 0
    revision: int = 0
    rows: Mapping[KeyBytes, StoredRow] = field(default_factory=dict)
    tombstones: Mapping[KeyBytes, int] = field(default_factory=dict)
    forgotten: int = 0
    """Marks before this clock cannot be answered: tombstones after them have been pruned."""
    receipts: Mapping[str, bytes] = field(default_factory=dict)

    def mark(self) -> Mark:
        return Mark(f"{self.epoch}-{self.clock}")

    def clock_of(self, mark: Mark) -> int:
        epoch, _, clock = mark.value.partition("-")
        if epoch != self.epoch or not clock.isdecimal() or int(clock) > self.clock:
            raise MarkExpired("the mark is not one of this table's", hint="read the table from the start")
        if int(clock) < self.forgotten:
            raise MarkExpired("the mark is too old", hint="read the table from the start")
        return int(clock)


@dataclass(slots=True)
class MemoryStorage:
    """What outlives a backend: tables by id."""

    tables: dict[str, StoredTable] = field(default_factory=dict)


class MemoryView:
    """One moment of one table. Never suspends."""

    def __init__(self, table: Table, stored: StoredTable) -> None:
        self._table = table
        self._stored = replace(stored)

    @property
    def mark(self) -> Mark:
        return self._stored.mark()

    async def get(
        self, keys: Sequence[KeyBytes], columns: Sequence[str], versions: Sequence[str] = ()
    ) -> RecordBatch:
        self._check(columns, versions)
        rows = self._stored.rows
        return make_batch(self._table, [(k, rows[k]) for k in keys if k in rows], columns, versions)

    async def scan(
        self,
        where: Pushed,
        columns: Sequence[str],
        versions: Sequence[str] = (),
        order: Sequence[OrderTerm] = (),
        after: Position | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[RecordBatch]:
        self._check(columns, versions)
        rows = sorted_rows(self._table, self._stored.rows, self._keep(where), order, after, limit)
        for start in range(0, len(rows), BATCH):
            yield make_batch(self._table, rows[start : start + BATCH], columns, versions)

    async def count(self, where: Pushed) -> int:
        return sum(row_matches(self._table, where.native, row) for row in self._stored.rows.values())

    async def cell_states(self, version: str) -> dict[str, int]:
        self._check((), (version,))
        counts: dict[str, int] = dict.fromkeys(CELL_STATES, 0)
        for row in self._stored.rows.values():
            counts[row.cells.get(version, Cell()).state] += 1
        return counts

    async def changes(self, since: Mark) -> AsyncIterator[Sequence[KeyBytes]]:
        clock = self._stored.clock_of(since)
        keys = [key for key, row in self._stored.rows.items() if row.moved > clock]
        keys += [key for key, moved in self._stored.tombstones.items() if moved > clock]
        for start in range(0, len(keys), BATCH):
            yield keys[start : start + BATCH]

    async def nearest(self, version: Version, vector: Vector, k: int, where: Pushed) -> Candidates:
        self._check((), (version.id,))
        keys = nearest_rows(self._table, self._stored.rows, self._keep(where), version, vector)
        return Candidates(keys[:k], complete=True)

    def _keep(self, where: Pushed) -> Keep:
        return lambda _, row: row_matches(self._table, where.native, row)

    def _check(self, columns: Sequence[str], versions: Sequence[str]) -> None:
        check_held(self._table, columns, versions, self._stored.columns, self._stored.versions)


class _Draft:
    """The table as it will be when a batch lands whole."""

    def __init__(self, table: Table, stored: StoredTable) -> None:
        self._table = table
        self._stored = stored
        self.rows = dict(stored.rows)
        self.tombstones = dict(stored.tombstones)
        self.revision = stored.revision
        self.clock = stored.clock + 1

    def put(self, put: Put) -> Outcome:
        old = self.rows.get(put.key)
        if put.revision is not None and (old is None or old.revision != put.revision):
            return "changed"
        if old is not None and put.guard == "skip":
            return "skipped"
        if old is not None and put.guard == "absent":
            raise key_exists(self._table, put.key)
        self.revision += 1
        cells = put_cells({} if old is None else old.cells, put)
        self.rows[put.key] = StoredRow(stored_values(self._table, put), cells, self.revision, self.clock)
        self.tombstones.pop(put.key, None)
        return "inserted" if old is None else "replaced"

    def delete(self, delete: Delete) -> Outcome:
        old = self.rows.get(delete.key)
        if old is None:
            return "missing"
        if delete.revision is not None and delete.revision != old.revision:
            return "changed"
        del self.rows[delete.key]
        self.tombstones[delete.key] = self.clock
        return "deleted"

    def write_cell(self, write: CellWrite) -> bool:
        row = self.rows.get(write.key)
        cell = None if row is None else write_cell(row, write)
        if row is None or cell is None:
            return False
        self.rows[write.key] = replace(row, cells={**row.cells, write.version: cell}, moved=self.clock)
        return True


class MemoryBackend:
    """A Backend whose tables live in `storage` for as long as somebody holds it. Views are copies; writes are
    atomic because nothing suspends. `tombstones`: how many `maintain` leaves per table."""

    def __init__(self, storage: MemoryStorage | None = None, tombstones: int = 100_000) -> None:
        self._storage = storage or MemoryStorage()
        self._tombstones = tombstones

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(atomic_batch=True, snapshot="transaction", inline=True)

    async def open(self) -> None:
        """Nothing to open."""

    async def alter(self, table: Table, change: SchemaChange) -> None:
        stored = self._storage.tables.get(table.id)
        if stored is not None and table.generation < stored.generation:
            raise changed(table)
        if change.kind == "drop_table":
            self._storage.tables.pop(table.id, None)
            return
        if change.kind == "create_index":
            raise Unsupported("the memory backend builds no indexes", hint="every search here is exact")
        if stored is None:
            if change.kind != "create_table":
                raise not_found(table)
            stored = StoredTable(table.generation, frozenset(), frozenset())
            self._storage.tables[table.id] = stored
        _fit(stored, table)

    def push(self, table: Table, where: Predicate) -> Pushed:
        return Pushed(where, None, text="" if where == TRUE else str(where))

    async def write(self, table: Table, batch: WriteBatch) -> Receipt:
        stored = self._stored(table)
        if batch.generation != stored.generation:
            raise changed(table)
        draft = _Draft(table, stored)
        outcomes = [draft.put(put) for put in batch.puts] + [draft.delete(d) for d in batch.deletes]
        written = sum(draft.write_cell(write) for write in batch.cells)
        stored.rows, stored.tombstones = draft.rows, draft.tombstones
        stored.revision, stored.clock = draft.revision, draft.clock
        stored.receipts = {**stored.receipts, **batch.receipts}
        return Receipt(stored.mark(), outcomes, written)

    async def get_unchanged(
        self,
        table: Table,
        since: Mark | None,
        keys: Sequence[KeyBytes],
        columns: Sequence[str],
        versions: Sequence[str] = (),
        noted: Noted | None = None,
    ) -> RecordBatch | None:
        """None: a view costs nothing here."""
        return None

    async def receipt(self, table: Table, idempotency_key: str) -> bytes | None:
        return self._stored(table).receipts.get(idempotency_key)

    @asynccontextmanager
    async def view(self, table: Table, at_least: Mark | None = None) -> AsyncIterator[MemoryView]:
        stored = self._stored(table)
        if at_least is not None:
            stored.clock_of(at_least)
        yield MemoryView(table, stored)

    async def maintain(self) -> None:
        for stored in self._storage.tables.values():
            kept = sorted(stored.tombstones.items(), key=lambda found: found[1])
            surplus = kept[: max(0, len(kept) - self._tombstones)]
            if surplus:
                stored.forgotten = surplus[-1][1]
                stored.tombstones = dict(kept[len(surplus) :])

    async def close(self) -> None:
        """Nothing to close: the storage stays."""

    def _stored(self, table: Table) -> StoredTable:
        stored = self._storage.tables.get(table.id)
        if stored is None:
            raise not_found(table)
        return stored


def _fit(stored: StoredTable, table: Table) -> None:
    """Makes `stored` hold exactly the columns and versions of `table`: new columns get their default."""
    columns = {c.id: check_default(c) for c in table.stored_columns}
    versions = frozenset(v.id for _, v in table.versions)
    if stored.columns != columns.keys() or stored.versions != versions:
        stored.rows = {key: refitted(row, columns, versions) for key, row in stored.rows.items()}
        stored.columns, stored.versions = frozenset(columns), versions
        stored.clock += 1
    stored.generation = table.generation
