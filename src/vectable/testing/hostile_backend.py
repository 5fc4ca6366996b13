"""A deliberately nasty yet legal backend, to find in a second what a real engine would find months later.

Documents land one by one, and a crash leaves the first part of a batch. Views lag behind unless given a mark,
and move on while they are read. Filters are pushed as crude supersets. Candidates come scrambled, with
strangers among them. Changes repeat, out of order. Marks are random strings. Everything suspends."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

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
from vectable.core.predicate import TRUE, Combination, Predicate
from vectable.core.query import OrderTerm
from vectable.core.rows import CellWrite, Delete, Outcome, Put, Receipt, RecordBatch, WriteBatch
from vectable.core.schema import Table, Version
from vectable.core.values import check_default
from vectable.core.vectors import Vector
from vectable.errors import (
    BackendError,
    MarkExpired,
    OutcomeUnknown,
    Unsupported,
)
from vectable.interfaces import Candidates, Capabilities, Noted, Position, Pushed, SchemaChange

_T = TypeVar("_T")


@dataclass(slots=True)
class HostileTable:
    """One table: `rows` is what was written, `visible` what reads see, `log` the keys written in order.
    `seen`: how much of the log is visible; `marks`: how much of it each mark stands for."""

    generation: int = 0
    columns: frozenset[str] = frozenset()
    versions: frozenset[str] = frozenset()
    rows: dict[KeyBytes, StoredRow] = field(default_factory=dict)
    visible: dict[KeyBytes, StoredRow] = field(default_factory=dict)
    log: list[KeyBytes] = field(default_factory=list)
    seen: int = 0
    revision: int = 0
    writing: int = 0
    forgotten: int = 0
    marks: dict[str, int] = field(default_factory=dict)
    receipts: dict[str, bytes] = field(default_factory=dict)

    def advance(self, until: int) -> None:
        """Makes the log up to `until` visible."""
        for key in self.log[self.seen : until]:
            if key in self.rows:
                self.visible[key] = self.rows[key]
            else:
                self.visible.pop(key, None)
        self.seen = max(self.seen, until)


@dataclass(slots=True)
class HostileStorage:
    """What outlives a backend. `crash_after`: documents that still land before the next crash (None: none
    comes). Everything random comes from `seed`."""

    seed: int = 0
    tables: dict[str, HostileTable] = field(default_factory=dict)
    crash_after: int | None = None
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def mark(self, stored: HostileTable, position: int) -> Mark:
        name = f"{self.random.choice('zyx~é%')}{self.random.getrandbits(64):x}"
        stored.marks[name] = position
        return Mark(name)

    def scrambled(self, items: Sequence[_T]) -> list[_T]:
        return self.random.sample(items, len(items))


async def _pause() -> None:
    await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class _Loosened:
    """A superset of `where`: strangers get in by a checksum of their key."""

    where: Predicate

    def holds(self, table: Table, key: KeyBytes, row: StoredRow) -> bool:
        return zlib.crc32(key) % 4 == 0 or row_matches(table, self.where, row)


def _loosened(where: Predicate) -> _Loosened:
    if isinstance(where, Combination) and where.op == "and" and where.args:
        return _Loosened(where.args[0])
    nothing = zlib.crc32(repr(where).encode("utf-8", "replace")) % 2
    return _Loosened(TRUE if nothing else where)


class HostileView:
    """A view that moves: every call reads what is visible by then."""

    def __init__(self, storage: HostileStorage, table: Table, stored: HostileTable) -> None:
        self._storage = storage
        self._table = table
        self._stored = stored
        self._mark = storage.mark(stored, stored.seen)

    @property
    def mark(self) -> Mark:
        return self._mark

    async def get(
        self, keys: Sequence[KeyBytes], columns: Sequence[str], versions: Sequence[str] = ()
    ) -> RecordBatch:
        await self._move()
        self._check(columns, versions)
        rows = self._stored.visible
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
        names = [term.column for term in order]
        left = limit
        while left is None or left > 0:
            await self._move()
            self._check([*columns, *names], versions)
            size = self._storage.random.choice((1, 2, 5, 200, 1_000))
            size = size if left is None else min(size, left)
            rows = sorted_rows(self._table, self._stored.visible, self._keep(where), order, after, size)
            if self._storage.random.random() < 0.2:
                yield make_batch(self._table, [], columns, versions)
            if not rows:
                return
            last = make_batch(self._table, rows[-1:], names, ())
            after = Position(tuple(last.columns[n][0] for n in names), last.keys[0])
            left = None if left is None else left - len(rows)
            yield make_batch(self._table, rows, columns, versions)

    async def count(self, where: Pushed) -> int:
        await self._move()
        keep = self._keep(where)
        return sum(keep(key, row) for key, row in self._stored.visible.items())

    async def cell_states(self, version: str) -> dict[str, int]:
        await self._move()
        self._check((), (version,))
        counts: dict[str, int] = dict.fromkeys(CELL_STATES, 0)
        for row in self._stored.visible.values():
            counts[row.cells.get(version, Cell()).state] += 1
        return counts

    async def changes(self, since: Mark) -> AsyncIterator[Sequence[KeyBytes]]:
        await self._move()
        start = _position(self._stored, since)
        if start < self._stored.forgotten:
            raise MarkExpired("the mark is too old", hint="read the table from the start")
        changed = self._stored.log[start : self._stored.seen]
        repeated = self._storage.random.choices(self._stored.log, k=min(3, len(self._stored.log)))
        keys = self._storage.scrambled([*changed, *repeated])
        for at in range(0, len(keys), 7):
            await _pause()
            yield keys[at : at + 7]
        yield []

    async def nearest(self, version: Version, vector: Vector, k: int, where: Pushed) -> Candidates:
        await self._move()
        self._check((), (version.id,))
        keep = self._keep(where)
        keys = nearest_rows(self._table, self._stored.visible, keep, version, vector)
        strangers = [key for key, row in self._stored.visible.items() if keep(key, row)]
        extra = self._storage.random.choices(strangers, k=3) if strangers else []
        return Candidates(self._storage.scrambled(list({*keys[:k], *extra})), complete=True)

    def _keep(self, where: Pushed) -> Keep:
        return lambda key, row: where.native.holds(self._table, key, row)

    def _check(self, columns: Sequence[str], versions: Sequence[str]) -> None:
        check_held(self._table, columns, versions, self._stored.columns, self._stored.versions)

    async def _move(self) -> None:
        await _pause()
        if self._storage.random.random() < 0.2:
            self._stored.advance(self._storage.random.randint(self._stored.seen, len(self._stored.log)))


def _position(stored: HostileTable, mark: Mark) -> int:
    if mark.value not in stored.marks:
        raise MarkExpired("the mark is not one of this table's", hint="read the table from the start")
    return stored.marks[mark.value]


class HostileBackend:
    """A Backend over `storage`; several may share one, as processes share a server. After a crash this object
    answers nothing any more, and a new one over the same storage goes on."""

    def __init__(self, storage: HostileStorage | None = None) -> None:
        self.storage = storage or HostileStorage()
        self._dead = False

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(atomic_batch=False, snapshot="none", inline=False)

    async def open(self) -> None:
        await self._call()

    async def alter(self, table: Table, change: SchemaChange) -> None:
        await self._call()
        stored = self.storage.tables.get(table.id)
        while stored is not None and stored.writing:
            await self._call()
        if stored is not None and table.generation < stored.generation:
            raise changed(table)
        if change.kind == "drop_table":
            self.storage.tables.pop(table.id, None)
            return
        if change.kind == "create_index":
            raise Unsupported("this backend builds no indexes")
        if change.kind == "create_table":
            stored = self.storage.tables.setdefault(table.id, HostileTable())
        _fit(self._stored(table), table)

    def push(self, table: Table, where: Predicate) -> Pushed:
        native = _loosened(where)
        return Pushed(native, None if where == TRUE else where, text=f"at least {native.where}")

    async def write(self, table: Table, batch: WriteBatch) -> Receipt:
        await self._call()
        stored = self._stored(table)
        if batch.generation != stored.generation:
            raise changed(table)
        for put in batch.puts:
            if put.guard == "absent" and put.revision is None and put.key in stored.rows:
                raise key_exists(table, put.key)
        stored.writing += 1
        try:
            return await self._land(_Landing(table, stored), stored, batch)
        finally:
            stored.writing -= 1

    async def _land(self, landing: _Landing, stored: HostileTable, batch: WriteBatch) -> Receipt:
        outcomes = [await self._document(landing.put, put) for put in batch.puts]
        outcomes += [await self._document(landing.delete, delete) for delete in batch.deletes]
        written = [await self._document(landing.write_cell, write) for write in batch.cells]
        for name, answer in batch.receipts.items():
            await self._document(stored.receipts.__setitem__, name, answer)
        return Receipt(self.storage.mark(stored, len(stored.log)), outcomes, sum(written))

    async def _document(self, land: Callable[..., _T], *arguments: object) -> _T:
        await self._call()
        if self.storage.crash_after is not None:
            if self.storage.crash_after == 0:
                self._dead, self.storage.crash_after = True, None
                raise OutcomeUnknown("the connection was lost while writing", hint="read to find out")
            self.storage.crash_after -= 1
        return land(*arguments)

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
        await self._call()
        return self._stored(table).receipts.get(idempotency_key)

    @asynccontextmanager
    async def view(self, table: Table, at_least: Mark | None = None) -> AsyncIterator[HostileView]:
        await self._call()
        stored = self._stored(table)
        wanted = 0 if at_least is None else _position(stored, at_least)
        while stored.seen < wanted:
            await self._call()
            stored.advance(self.storage.random.randint(stored.seen, len(stored.log)))
        yield HostileView(self.storage, table, stored)

    async def maintain(self) -> None:
        """Forgets the older half of each table's history."""
        await self._call()
        for stored in self.storage.tables.values():
            stored.forgotten = max(stored.forgotten, stored.seen // 2)

    async def close(self) -> None:
        self._dead = True

    async def _call(self) -> None:
        await _pause()
        if self._dead:
            raise BackendError("this backend has crashed or is closed", hint="open a new one")

    def _stored(self, table: Table) -> HostileTable:
        stored = self.storage.tables.get(table.id)
        if stored is None:
            raise not_found(table)
        return stored


@dataclass(frozen=True, slots=True)
class _Landing:
    """Lands one document at a time: a row with its cells, whole, or not at all."""

    table: Table
    stored: HostileTable

    def put(self, put: Put) -> Outcome:
        old = self.stored.rows.get(put.key)
        if put.revision is not None and (old is None or old.revision != put.revision):
            return "changed"
        if old is not None and put.guard == "skip":
            return "skipped"
        if old is not None and put.guard == "absent":
            raise key_exists(self.table, put.key)
        self.stored.revision += 1
        cells = put_cells({} if old is None else old.cells, put)
        values = stored_values(self.table, put)
        self._keep(put.key, StoredRow(values, cells, self.stored.revision, len(self.stored.log)))
        return "inserted" if old is None else "replaced"

    def delete(self, delete: Delete) -> Outcome:
        old = self.stored.rows.get(delete.key)
        if old is None:
            return "missing"
        if delete.revision is not None and delete.revision != old.revision:
            return "changed"
        self._keep(delete.key, None)
        return "deleted"

    def write_cell(self, write: CellWrite) -> bool:
        row = self.stored.rows.get(write.key)
        cell = None if row is None else write_cell(row, write)
        if row is None or cell is None:
            return False
        self._keep(write.key, replace(row, cells={**row.cells, write.version: cell}))
        return True

    def _keep(self, key: KeyBytes, row: StoredRow | None) -> None:
        if row is None:
            del self.stored.rows[key]
        else:
            self.stored.rows[key] = row
        self.stored.log.append(key)


def _fit(stored: HostileTable, table: Table) -> None:
    """Makes `stored` hold exactly the columns and versions of `table`: new columns get their default."""
    defaults = {c.id: check_default(c) for c in table.stored_columns}
    versions = frozenset(v.id for _, v in table.versions)

    def fitted(rows: Mapping[KeyBytes, StoredRow]) -> dict[KeyBytes, StoredRow]:
        return {key: refitted(row, defaults, versions) for key, row in rows.items()}

    stored.rows, stored.visible = fitted(stored.rows), fitted(stored.visible)
    stored.columns, stored.versions = frozenset(defaults), versions
    stored.generation = table.generation
