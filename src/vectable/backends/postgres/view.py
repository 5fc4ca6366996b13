"""One consistent moment of one table: a read transaction on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from asyncpg import exceptions as pg

from vectable.backends.compared import Placed, native
from vectable.backends.compile.filter import Filter
from vectable.backends.postgres import by_index
from vectable.backends.postgres import nearest as exact
from vectable.backends.postgres.indexes import settings
from vectable.backends.postgres.layout import KEY, XID, Layout, cells_name
from vectable.backends.postgres.scan import scan_sql
from vectable.backends.postgres.select import SqlRow, selection
from vectable.backends.postgres.standing import (
    Standing,
    changed_since,
    check_not_forgotten,
    snapshot_of,
)
from vectable.backends.refusals import gone
from vectable.core.cell import CELL_STATES
from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.query import OrderTerm
from vectable.core.rows import RecordBatch
from vectable.core.schema import Index, Version
from vectable.core.vectors import Vector
from vectable.drivers.postgres import Connection, PostgresDriver, ours
from vectable.interfaces import Candidates, Position, Pushed

BATCH = 1_000
_KEYS = 5_000
GONE = (pg.UndefinedTableError, pg.UndefinedColumnError)
"""What was there when the place was looked up has been altered since."""


class PostgresView:
    """See `interfaces.View`. Statements of one view run one after the other, whoever asks."""

    def __init__(
        self,
        driver: PostgresDriver,
        connection: Connection,
        layout: Layout,
        standing: Standing,
        mark: Mark,
        lost: Callable[[], None],
    ) -> None:
        """`lost` is called when something is not where the layout says."""
        self._driver = driver
        self._connection = connection
        self._layout = layout
        self._standing = standing
        self._mark = mark
        self._lost = lost
        self._turn = asyncio.Lock()

    @property
    def mark(self) -> Mark:
        """Everything committed up to here is seen, nothing later."""
        return self._mark

    async def rows(self, sql: str, params: Sequence[Any] = ()) -> list[SqlRow]:
        """All rows of a statement."""
        async with self._turn:
            with self._driver.translated:
                try:
                    found: list[SqlRow] = await self._connection.fetch(sql, *params)
                except GONE as error:
                    self._lost()
                    raise gone("a column or version") from error
        return found

    async def pages(
        self, sql: str, params: Sequence[Any] = (), size: int = BATCH
    ) -> AsyncGenerator[list[SqlRow], None]:
        """The rows of a statement in lists of at most `size`, read from the server as they are asked for."""
        async with self._turn:
            with self._driver.translated:
                try:
                    cursor = await self._connection.cursor(sql, *params)
                except GONE as error:
                    self._lost()
                    raise gone("a column or version") from error
        while True:
            async with self._turn:
                with self._driver.translated:
                    rows = await cursor.fetch(size)
            if rows:
                yield rows
            if len(rows) < size:
                return

    async def get(
        self, keys: Sequence[KeyBytes], columns: Sequence[str], versions: Sequence[str] = ()
    ) -> RecordBatch:
        """The rows that exist among `keys`, in the order asked."""
        chosen = selection(self._layout, columns, versions)
        tables = self._layout.joined(chosen.versions)
        sql = f"SELECT {chosen.expressions} {tables} WHERE t.key = ANY ($1::bytea[])"
        found: list[SqlRow] = []
        for start in range(0, len(keys), _KEYS):
            found += await self.rows(sql, (list(keys[start : start + _KEYS]),))
        return chosen.asked(keys, found)

    async def scan(
        self,
        where: Pushed,
        columns: Sequence[str],
        versions: Sequence[str] = (),
        order: Sequence[OrderTerm] = (),
        after: Position | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[RecordBatch]:
        """Rows passing `where.native` in order, in batches of at most 1,000."""
        if not native(self._layout.table, order):
            async with aclosing(
                self._sorted_here(where.native, columns, versions, order, after, limit)
            ) as batches:
                async for batch in batches:
                    yield batch
            return
        chosen = selection(self._layout, columns, versions)
        tail, params, _ = scan_sql(self._layout, chosen, where.native, order, after, limit)
        sql = f"SELECT {chosen.expressions} {tail}"
        if limit is not None and limit <= BATCH:
            yield chosen.batch(await self.rows(sql, params))
            return
        async with aclosing(self.pages(sql, params)) as pages:
            async for page in pages:
                yield chosen.batch(page)

    async def _sorted_here(
        self,
        condition: Filter,
        columns: Sequence[str],
        versions: Sequence[str],
        order: Sequence[OrderTerm],
        after: Position | None,
        limit: int | None,
    ) -> AsyncGenerator[RecordBatch, None]:
        """For orders PostgreSQL does not have (JSON): sorts keys in memory, then reads the rows page by
        page."""
        placed = Placed(order)
        chosen = selection(self._layout, placed.columns, ())
        tables = self._layout.joined([*chosen.versions, *condition.versions])
        sql = f"SELECT {chosen.expressions} {tables} WHERE {condition.text}"
        async with aclosing(self.pages(sql, condition.params)) as pages:
            async for page in pages:
                placed.add(chosen.batch(page))
        keys = placed.keys(after, limit)
        for at in range(0, len(keys), BATCH):
            yield await self.get(keys[at : at + BATCH], columns, versions)

    async def count(self, where: Pushed) -> int:
        """Rows passing `where.native`."""
        condition: Filter = where.native
        sql = f"SELECT count(*) {self._layout.joined(condition.versions)} WHERE {condition.text}"
        return int((await self.rows(sql, condition.params))[0][0])

    async def cell_states(self, version: str) -> dict[str, int]:
        """Cells per state."""
        if version not in self._layout.place.versions:
            raise gone("a version")
        counts: dict[str, int] = dict.fromkeys(CELL_STATES, 0)
        found = await self.rows(f"SELECT state, count(*) FROM {ours(cells_name(version))} GROUP BY state")
        counts.update((state, number) for state, number in found)
        ((rows,),) = await self.rows(f"SELECT count(*) FROM {self._layout.place.rows}")
        counts["empty"] += rows - sum(counts.values())
        return counts

    async def changes(self, since: Mark) -> AsyncIterator[Sequence[KeyBytes]]:
        """Keys of rows put, deleted, or with a changed cell after `since`; may repeat."""
        place = self._layout.place
        start = snapshot_of(since, self._connection.incarnation, self._layout.table, self._standing.snapshot)
        check_not_forgotten(start, self._standing)
        if since == self._mark:
            return
        queries = [
            f"SELECT r.{KEY} FROM {place.rows} AS r WHERE {changed_since(f'r.{XID}', '$1')}",
            f"SELECT d.key FROM {place.tombstones} AS d WHERE {changed_since('d.xid', '$1')}",
        ]
        for version in self._layout.versions:
            if version in place.versions:
                cells = ours(cells_name(version))
                queries.append(f"SELECT v.key FROM {cells} AS v WHERE {changed_since('v.xid', '$1')}")
        queries += place.told
        for query in queries:
            async with aclosing(self.pages(query, (str(start),))) as pages:
                async for page in pages:
                    yield [row[0] for row in page]

    async def nearest(self, version: Version, vector: Vector, k: int, where: Pushed) -> Candidates:
        """The `k` nearest servable rows passing `where.native`, exactly, and those tied with the last."""
        return await exact.nearest(self, self._layout, version, vector, k, where.native)

    async def set(self, sql: str) -> None:
        """Settings for this view's transaction."""
        async with self._turn:
            with self._driver.translated:
                await self._connection.execute(sql)

    async def nominate(
        self, index: Index, effort: int, vector: Vector, k: int, where: Pushed
    ) -> Sequence[KeyBytes]:
        """Rows the server's index takes for the nearest of those passing `where.native`."""
        return await by_index.nominate(self, self._layout, index, effort, vector, k, where.native)

    async def count_up_to(self, where: Pushed, most: int) -> int:
        """Rows passing `where.native`, or `most` when there are more."""
        condition: Filter = where.native
        tables = self._layout.joined(condition.versions)
        limit = f"LIMIT ${len(condition.params) + 1}::bigint"
        sql = f"SELECT count(*) FROM (SELECT {tables} WHERE {condition.text} {limit}) AS found"
        return int((await self.rows(sql, [*condition.params, most]))[0][0])

    async def explain_nearest(
        self, version: Version, vector: Vector, k: int, where: Pushed, by: tuple[Index, int] | None
    ) -> str:
        """EXPLAIN of the statement that `nearest` begins with, or of the one `nominate` runs."""
        if by is None:
            sql, params = exact.statement(self._layout, version, vector, k, where.native)
        else:
            index, effort = by
            wanted = by_index.rounded(k)
            sql, params = by_index.statement(self._layout, index, vector, wanted, where.native)
            await self.set(settings(index, effort, wanted))
        return by_index.readable(await self.rows(f"EXPLAIN {sql}", params))
