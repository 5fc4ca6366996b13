"""One consistent moment of one table: a read transaction on a connection of its own. Never suspends."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import Any

from vectable.backends.compared import Placed, native
from vectable.backends.compile.filter import Filter
from vectable.backends.refusals import gone
from vectable.backends.sqlite import nearest as exact
from vectable.backends.sqlite.fit import missing_parts
from vectable.backends.sqlite.layout import Layout, cells_name
from vectable.backends.sqlite.order import after_sql, order_by
from vectable.backends.sqlite.select import IN_LIST, SqlRow, joins, padded, selection
from vectable.backends.sqlite.standing import (
    PLACE,
    PLACE_WIDTH,
    Standing,
    check_not_forgotten,
    make_mark,
    same_place,
    seq_of,
    standing_of,
)
from vectable.core.cell import CELL_STATES
from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.query import OrderTerm
from vectable.core.rows import RecordBatch
from vectable.core.schema import Version
from vectable.core.vectors import Vector
from vectable.drivers.sqlite import SqliteDriver
from vectable.interfaces import Candidates, Noted, Position, Pushed

BATCH = 1_000
_AT_ONCE = 1 << 14
"""As many parameters, a power of two, as a statement surely takes."""


class SqliteView:
    """See `interfaces.View`. Works on the thread that calls, one at a time."""

    def __init__(
        self, driver: SqliteDriver, connection: sqlite3.Connection, layout: Layout, standing: Standing
    ) -> None:
        self._driver = driver
        self._connection = connection
        self._layout = layout
        self._standing = standing
        self._cursors: list[sqlite3.Cursor] = []

    @property
    def mark(self) -> Mark:
        """Everything committed up to here is seen, nothing later."""
        return make_mark(self._layout.table, self._standing)

    def close(self) -> None:
        """Ends unfinished scans, so that none keeps the moment alive on a connection others will use."""
        for cursor in self._cursors:
            cursor.close()
        self._cursors.clear()

    def pages(self, sql: str, params: Sequence[Any] = (), size: int = BATCH) -> Iterator[list[SqlRow]]:
        """The rows of a statement in lists of at most `size`."""
        cursor = self._execute(sql, params)
        self._cursors.append(cursor)
        try:
            while True:
                with self._driver.translated:
                    rows = cursor.fetchmany(size)
                if rows:
                    yield rows
                if len(rows) < size:
                    return
        finally:
            cursor.close()
            if cursor in self._cursors:
                self._cursors.remove(cursor)

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[SqlRow]:
        """All rows of a statement."""
        cursor = self._execute(sql, params)
        with self._driver.translated:
            return cursor.fetchall()

    def _execute(self, sql: str, params: Sequence[Any]) -> sqlite3.Cursor:
        with self._driver.translated:
            try:
                return self._connection.execute(sql, params)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_ERROR and str(error).startswith("no such "):
                    raise gone("a column or version") from error
                raise

    async def get(
        self, keys: Sequence[KeyBytes], columns: Sequence[str], versions: Sequence[str] = ()
    ) -> RecordBatch:
        """The rows that exist among `keys`, in the order asked."""
        return self._get(keys, columns, versions)

    def _get(self, keys: Sequence[KeyBytes], columns: Sequence[str], versions: Sequence[str]) -> RecordBatch:
        chosen = selection(self._layout, columns, versions)
        head = f"SELECT {chosen.expressions} {joins(self._layout, chosen.versions)} WHERE t.key IN "
        found: list[SqlRow] = []
        for start in range(0, len(keys), IN_LIST):
            chunk = padded(keys[start : start + IN_LIST])
            marks = ",".join("?" * len(chunk))
            found += self.rows(f"{head}({marks})", chunk)
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
            for batch in self._sorted_here(where.native, columns, versions, order, after, limit):
                yield batch
            return
        chosen = selection(self._layout, columns, versions)
        ordering, needed = order_by(self._layout, order)
        condition: Filter = where.native
        text, params = condition.text, list(condition.params)
        if after is not None:
            behind, more = after_sql(self._layout, order, after)
            text, params = f"({text}) AND {behind}", params + more
        tables = joins(self._layout, [*chosen.versions, *condition.versions, *needed])
        sql = f"SELECT {chosen.expressions} {tables} WHERE {text} ORDER BY {ordering}"
        if limit is not None:
            sql, params = f"{sql} LIMIT ?", [*params, limit]
        for page in self.pages(sql, params):
            yield chosen.batch(page)

    def _sorted_here(
        self,
        condition: Filter,
        columns: Sequence[str],
        versions: Sequence[str],
        order: Sequence[OrderTerm],
        after: Position | None,
        limit: int | None,
    ) -> Iterator[RecordBatch]:
        """For orders SQLite does not have (JSON): sorts keys in memory, then reads the rows page by page."""
        placed = Placed(order)
        chosen = selection(self._layout, placed.columns, ())
        tables = joins(self._layout, [*chosen.versions, *condition.versions])
        sql = f"SELECT {chosen.expressions} {tables} WHERE {condition.text}"
        for page in self.pages(sql, condition.params):
            placed.add(chosen.batch(page))
        keys = placed.keys(after, limit)
        for at in range(0, len(keys), BATCH):
            yield self._get(keys[at : at + BATCH], columns, versions)

    async def count(self, where: Pushed) -> int:
        """Rows passing `where.native`; all of them are counted at no cost."""
        condition: Filter = where.native
        if condition.everything:
            return self._standing.rows
        sql = f"SELECT count(*) {joins(self._layout, condition.versions)} WHERE {condition.text}"
        return int(self.rows(sql, condition.params)[0][0])

    async def cell_states(self, version: str) -> dict[str, int]:
        """Cells per state. Ready ones, however many, are not looked at."""
        cells = cells_name(version)
        counts: dict[str, int] = dict.fromkeys(CELL_STATES, 0)
        unready = self.rows(f"SELECT state, count(*) FROM {cells} WHERE state <> 'ready' GROUP BY state")
        counts.update((state, number) for state, number in unready)
        ((kept,),) = self.rows(f"SELECT count(*) FROM {cells}")
        counts["ready"] = kept - sum(number for _, number in unready)
        counts["empty"] += self._standing.rows - kept
        return counts

    async def changes(self, since: Mark) -> AsyncIterator[Sequence[KeyBytes]]:
        """Keys of rows put, deleted, or with a changed cell after `since`; may repeat."""
        layout = self._layout
        seq = seq_of(since, layout.table, self._standing)
        check_not_forgotten(seq, self._standing)
        if seq == self._standing.seq:
            return
        queries = [
            f"SELECT key FROM {layout.rows} WHERE seq > ?",
            f"SELECT key FROM {layout.tombstones} WHERE seq > ?",
        ]
        for version in layout.versions:
            cells = cells_name(version)
            # A cell written together with its row is told already.
            queries.append(
                f"SELECT t.key FROM {cells} AS v JOIN {layout.rows} AS t ON t.rid = v.rid"
                " WHERE v.seq > ?1 AND t.seq <= ?1"
            )
        for query in queries:
            for page in self.pages(query, (seq,)):
                yield [row[0] for row in page]

    async def nearest(self, version: Version, vector: Vector, k: int, where: Pushed) -> Candidates:
        """The `k` nearest servable rows passing `where.native`, exactly, and those tied with the last."""
        return exact.nearest(self, self._layout, version, vector, k, where.native)


def get_unchanged(
    driver: SqliteDriver,
    layout: Layout,
    since: Mark | None,
    keys: Sequence[KeyBytes],
    columns: Sequence[str],
    versions: Sequence[str],
    noted: Noted | None,
) -> RecordBatch | None:
    """See `Backend.get_unchanged`: by one statement, which sees one moment without a transaction around it.
    None also for more keys than it takes."""
    if len(keys) > _AT_ONCE:
        return None
    chosen, asked = selection(layout, columns, versions), padded(keys)
    sql = chosen.with_proof.get(len(asked))
    if sql is None:
        beside = f"{PLACE} AS s LEFT JOIN {layout.rows} AS t ON t.key IN ({','.join('?' * len(asked))})"
        sql = f"SELECT {chosen.expressions}, s.* {joins(layout, chosen.versions, beside)}"
        chosen.with_proof[len(asked)] = sql
    with driver.translated:
        connection = driver.take()
        try:
            about = (None if noted is None else noted.key, layout.table.id)
            rows = connection.execute(sql, [*about, *asked]).fetchall()
        except sqlite3.OperationalError:
            return None  # a view says what is wrong
        finally:
            driver.give(connection)
    if not rows or not same_place(since, layout.table, noted, rows[0][-PLACE_WIDTH:]):
        return None
    return chosen.asked(keys, rows)


class Viewing:
    """`async with Viewing(…) as view`: takes a connection, gives it back."""

    def __init__(self, driver: SqliteDriver, layout: Layout, at_least: Mark | None) -> None:
        self._driver = driver
        self._layout = layout
        self._at_least = at_least
        self._connection: sqlite3.Connection | None = None
        self._view: SqliteView | None = None

    async def __aenter__(self) -> SqliteView:
        with self._driver.translated:
            connection = self._driver.take()
            try:
                connection.execute("BEGIN")
                standing = standing_of(connection, self._layout.table)
                self._check(connection, standing)
            except BaseException:
                self._driver.give(connection)
                raise
        self._connection = connection
        self._view = SqliteView(self._driver, connection, self._layout, standing)
        return self._view

    def _check(self, connection: sqlite3.Connection, standing: Standing) -> None:
        table = self._layout.table
        if self._at_least is not None:
            seq_of(self._at_least, table, standing)
        if standing.generation != table.generation:
            missing = missing_parts(connection, self._layout)
            if missing:
                raise gone(f"{missing[0]!r}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._view is not None:
            self._view.close()
        if self._connection is not None:
            self._driver.give(self._connection)
        self._view = self._connection = None
