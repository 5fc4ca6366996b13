"""The backend over one PostgreSQL database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from vectable.backends.postgres import direct, fit, indexes
from vectable.backends.postgres.build import build_index
from vectable.backends.postgres.draft import Values
from vectable.backends.postgres.filter import push
from vectable.backends.postgres.layout import physical
from vectable.backends.postgres.load import is_load
from vectable.backends.postgres.standing import parse_mark
from vectable.backends.postgres.unchanged import get_unchanged
from vectable.backends.postgres.viewing import Places, Viewing
from vectable.backends.postgres.write import Moved, Overtaken, Written, write
from vectable.backends.refusals import not_found
from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.predicate import Predicate
from vectable.core.query import OrderTerm
from vectable.core.rows import Receipt, RecordBatch, WriteBatch
from vectable.core.schema import Index, Table, Version
from vectable.drivers.postgres import Connection, PostgresDriver, ours
from vectable.errors import BackendBusy
from vectable.interfaces import Capabilities, Noted, Position, Progress, Pushed, SchemaChange, View

_ENCODED_HERE = 200
"""A larger batch is encoded off the event loop's thread."""
_ATTEMPTS = 20


class PostgresBackend:
    """`Backend` over a driver, which it opens and closes; a state store and a cache may share the driver.

    `maintain` forgets receipts older than `receipt_days`, and deletions older than `tombstone_days` or beyond
    the last `tombstones`: marks from before those expire."""

    def __init__(
        self,
        driver: PostgresDriver,
        *,
        receipt_days: float = 7,
        tombstone_days: float = 30,
        tombstones: int = 1_000_000,
    ) -> None:
        self._driver = driver
        self._places = Places(driver)
        self._receipt_days = receipt_days
        self._tombstone_days = tombstone_days
        self._tombstones = tombstones

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            atomic_batch=True,
            proves_unchanged=True,
            reads_directly=True,
            snapshot="transaction",
            index_kinds=frozenset(indexes.KINDS),
            scalar_indexes=frozenset({"btree", "hash", "gin"}),
        )

    async def open(self) -> None:
        """Opens the driver: see `PostgresDriver.open` for what can be wrong."""
        await self._driver.open()

    async def alter(self, table: Table, change: SchemaChange) -> None:
        """Makes storage fit `table`, in one transaction. Waits for open views of the table, a while at a
        time, so that new ones need not wait behind it. Raises BackendBusy when that takes too long."""
        fit.check(table, change)
        try:
            await fit.run(self._driver, table, change)
        finally:
            self._places.forget(table)

    def push(self, table: Table, where: Predicate) -> Pushed:
        """Splits a bound predicate. Pure."""
        return push(table, where)

    async def write(self, table: Table, batch: WriteBatch) -> Receipt:
        """All of `batch` or nothing; durable when it returns."""
        overtaken: Overtaken | None = None
        fresh = is_load(batch)
        for _ in range(_ATTEMPTS):
            try:
                return (await self._write(table, batch, fresh)).receipt
            except Moved:
                self._places.forget(table)
            except Overtaken as error:
                overtaken, fresh = error, False
        raise BackendBusy(
            f"others kept changing what is written to table {table.full_name!r}", hint="try again"
        ) from overtaken

    async def _write(self, table: Table, batch: WriteBatch, fresh: bool) -> Written:
        """`fresh`: its rows are taken to be new."""
        layout = self._places.layouts.of(table, await self._places.of(table))
        values: list[Values] | None = None
        if not fresh:
            with self._driver.translated:
                if len(batch.puts) <= _ENCODED_HERE:
                    values = layout.encode(batch.puts)
                else:
                    values = await asyncio.to_thread(layout.encode, batch.puts)

        async def attempt(connection: Connection) -> Written:
            return await write(connection, layout, batch, values)

        return await self._driver.transaction(attempt, xid_of=lambda written: written.xid)

    async def get_unchanged(
        self,
        table: Table,
        since: Mark | None,
        keys: Sequence[KeyBytes],
        columns: Sequence[str],
        versions: Sequence[str] = (),
        noted: Noted | None = None,
    ) -> RecordBatch | None:
        """See `Backend`: one statement, one round trip."""
        layout = self._places.layouts.of(table, await self._places.of(table))
        found = await get_unchanged(self._driver, layout, since, keys, columns, versions, noted)
        # A connection made for it may have met a server that has crashed since.
        same = since is None or parse_mark(since, self._driver.incarnation, table) is not None
        return found if same else None

    async def page(
        self,
        table: Table,
        where: Pushed,
        columns: Sequence[str],
        versions: Sequence[str],
        order: Sequence[OrderTerm],
        after: Position | None,
        limit: int,
        noted: Noted | None = None,
    ) -> RecordBatch | None:
        """See `engine.search.direct`: one statement."""
        layout = self._places.layouts.of(table, await self._places.of(table))
        asked = (where.native, columns, versions, order, after, limit, noted)
        return await direct.page(self._driver, layout, *asked)

    async def count(self, table: Table, where: Pushed, noted: Noted | None = None) -> int | None:
        """See `engine.search.direct`: one statement."""
        layout = self._places.layouts.of(table, await self._places.of(table))
        return await direct.count(self._driver, layout, where.native, noted)

    async def receipt(self, table: Table, idempotency_key: str) -> bytes | None:
        """The answer kept under the key, for a week; None when there is none."""
        row = await self._driver.read(
            lambda connection: connection.fetchrow(
                "SELECT r.answer FROM vectable.tables t LEFT JOIN vectable.receipts r"
                " ON r.table_id = t.id AND r.key = $2 WHERE t.id = $1",
                table.id,
                idempotency_key,
            )
        )
        if row is None:
            raise not_found(table)
        answer: bytes | None = row[0]
        return answer

    def view(self, table: Table, at_least: Mark | None = None) -> AbstractAsyncContextManager[View]:
        """Everything committed before the call, and at that moment. Raises TableNotFound, StaleGeneration,
        MarkExpired on entry."""
        return Viewing(self._driver, self._places, table, at_least)

    async def maintain(self) -> None:
        """Forgets old receipts and deletions. The server itself reclaims space."""
        days = str(self._receipt_days)
        await self._driver.transaction(
            lambda connection: connection.execute(
                "DELETE FROM vectable.receipts WHERE created < now() - $1::text::float * interval '1 day'",
                days,
            )
        )
        tables = await self._driver.read(
            lambda connection: connection.fetch("SELECT id FROM vectable.tables ORDER BY id")
        )
        for (table_id,) in tables:
            await self._driver.transaction(partial(self._forget_deletions, table_id))

    async def _forget_deletions(self, table_id: str, connection: Connection) -> None:
        # A table that is dropped meanwhile is locked, or gone; one at work here is skipped by others.
        found = await connection.fetchval(
            "SELECT id FROM vectable.tables WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED", table_id
        )
        if found is None:
            return
        name = ours(physical("d", table_id))
        floor = await connection.fetchval(
            f"SELECT greatest((SELECT max(xid::text::numeric) FROM {name}"
            " WHERE at < now() - $1::text::float * interval '1 day'),"
            f" (SELECT xid::text::numeric FROM {name} ORDER BY xid DESC LIMIT 1 OFFSET $2::bigint))::text",
            str(self._tombstone_days),
            self._tombstones,
        )
        if floor is None:
            return
        await connection.execute(f"DELETE FROM {name} WHERE xid <= $1::text::xid8", floor)
        await connection.execute(
            "UPDATE vectable.tables"
            " SET floor = greatest(floor::text::numeric, $2::text::numeric + 1)::text::xid8 WHERE id = $1",
            table_id,
            floor,
        )

    def check_index(self, version: Version, kind: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters, completed. Raises InvalidInput, Unsupported."""
        return indexes.check_index(version, kind, parameters)

    def efforts(self, index: Index, rows: int) -> Sequence[tuple[int, int]]:
        """`hnsw.ef_search` or `ivfflat.probes` to try, each with how many candidates to compare exactly."""
        return indexes.efforts(index, rows)

    async def build_index(self, table: Table, index: Index, progress: Progress) -> None:
        """CREATE INDEX CONCURRENTLY: reads and writes go on."""
        await build_index(self._driver, table, index, progress)

    async def close(self) -> None:
        """Closes the driver. May be called again."""
        await self._driver.close()
