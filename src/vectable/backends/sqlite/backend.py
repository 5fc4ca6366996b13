"""The backend over one SQLite database."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

from vectable.backends.sqlite import fit
from vectable.backends.sqlite.filter import push
from vectable.backends.sqlite.layout import Layouts, physical
from vectable.backends.sqlite.standing import standing_of
from vectable.backends.sqlite.view import Viewing, get_unchanged
from vectable.backends.sqlite.write import write
from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.predicate import Predicate
from vectable.core.rows import Receipt, RecordBatch, WriteBatch
from vectable.core.schema import Table
from vectable.drivers.sqlite import SqliteDriver
from vectable.errors import Unsupported
from vectable.interfaces import Capabilities, Noted, Pushed, SchemaChange, View

_DAY_S = 86_400
_INLINE_ROWS = 200
"""A larger batch is encoded off the event loop's thread."""


class SqliteBackend:
    """`Backend` over a driver, which it opens and closes; a state store and a cache may share the driver.

    `maintain` forgets receipts older than `receipt_days`, and deletions older than `tombstone_days` or beyond
    the last `tombstones`: marks from before those expire."""

    def __init__(
        self,
        driver: SqliteDriver,
        *,
        receipt_days: float = 7,
        tombstone_days: float = 30,
        tombstones: int = 1_000_000,
    ) -> None:
        self._driver = driver
        self._layouts = Layouts()
        self._receipt_s = receipt_days * _DAY_S
        self._tombstone_s = tombstone_days * _DAY_S
        self._tombstones = tombstones

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            atomic_batch=True,
            snapshot="transaction",
            scalar_indexes=frozenset({"btree", "hash"}),
            inline=True,
            proves_unchanged=True,
        )

    async def open(self) -> None:
        """Opens the driver: see `SqliteDriver.open` for what can be wrong."""
        await asyncio.to_thread(self._driver.open)

    async def alter(self, table: Table, change: SchemaChange) -> None:
        """Makes storage fit `table`, in one transaction."""
        if change.kind == "create_index" and change.index is not None and change.index.type == "vector":
            raise Unsupported(
                "SQLite builds no vector indexes", hint="btree and hash indexes on columns are built here"
            )
        layout = self._layouts.of(table)
        if change.kind == "drop_table":
            await self._driver.write(partial(fit.drop, layout=layout))
        else:
            await self._driver.write(partial(fit.alter, layout=layout, create=change.kind == "create_table"))

    def push(self, table: Table, where: Predicate) -> Pushed:
        """Splits a bound predicate. Pure."""
        return push(self._layouts.of(table), where)

    async def write(self, table: Table, batch: WriteBatch) -> Receipt:
        """All of `batch` or nothing; durable when it returns."""
        layout = self._layouts.of(table)
        with self._driver.translated:
            if len(batch.puts) <= _INLINE_ROWS:
                values = layout.encode(batch.puts)
            else:
                values = await asyncio.to_thread(layout.encode, batch.puts)
        return await self._driver.write(partial(write, layout=layout, batch=batch, values=values))

    async def receipt(self, table: Table, idempotency_key: str) -> bytes | None:
        """The answer kept under the key, for a week; None when there is none."""
        with self._driver.reading() as connection:
            standing_of(connection, table)
            row = connection.execute(
                "SELECT answer FROM receipts WHERE table_id = ? AND key = ?", (table.id, idempotency_key)
            ).fetchone()
        return None if row is None else bytes(row[0])

    async def get_unchanged(
        self,
        table: Table,
        since: Mark | None,
        keys: Sequence[KeyBytes],
        columns: Sequence[str],
        versions: Sequence[str] = (),
        noted: Noted | None = None,
    ) -> RecordBatch | None:
        """One statement, which sees one moment without a transaction around it."""
        return get_unchanged(self._driver, self._layouts.of(table), since, keys, columns, versions, noted)

    def view(self, table: Table, at_least: Mark | None = None) -> AbstractAsyncContextManager[View]:
        """Everything committed before the call, and at that moment. Raises TableNotFound, StaleGeneration,
        MarkExpired on entry."""
        return Viewing(self._driver, self._layouts.of(table), at_least)

    async def maintain(self) -> None:
        """Forgets old receipts and deletions, moves the log into the file, gives free space back."""
        if not self._driver.read_only:
            await self._driver.write(self._forget)
            await self._driver.checkpoint()

    def _forget(self, connection: sqlite3.Connection) -> None:
        now = time.time()
        connection.execute("DELETE FROM receipts WHERE created < ?", (int(now - self._receipt_s),))
        for (table_id,) in connection.execute("SELECT id FROM tables").fetchall():
            self._forget_deletions(connection, table_id, int(now - self._tombstone_s))

    def _forget_deletions(self, connection: sqlite3.Connection, table_id: str, before: int) -> None:
        name = physical("d", table_id)
        (floor,) = connection.execute(
            f"SELECT max(coalesce((SELECT max(seq) FROM {name} WHERE at < ?), 0),"
            f" coalesce((SELECT seq FROM {name} ORDER BY seq DESC LIMIT 1 OFFSET ?), 0))",
            (before, self._tombstones),
        ).fetchone()
        if floor:
            connection.execute(f"DELETE FROM {name} WHERE seq <= ?", (floor,))
            connection.execute("UPDATE tables SET floor = max(floor, ?) WHERE id = ?", (floor, table_id))

    async def close(self) -> None:
        """Finishes queued writes and closes the driver. May be called again."""
        await self._driver.close()
