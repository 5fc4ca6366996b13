"""One PostgreSQL database: connections, transactions with safe repeats, errors in our words."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeVar

from vectable.drivers.postgres import migrations
from vectable.drivers.postgres.address import Address
from vectable.drivers.postgres.connection import CLOSE_S, Connection, connect, first_connection
from vectable.drivers.postgres.failures import RETRIED, TRANSLATED, Translated, is_lost, translate
from vectable.drivers.postgres.incarnation import Incarnation, find_incarnation
from vectable.drivers.postgres.leave import leave
from vectable.drivers.postgres.names import SCHEMA
from vectable.drivers.postgres.pool import Pool, PoolStatus
from vectable.errors import BackendError, InvalidInput, OutcomeUnknown

T = TypeVar("T")
Isolation = Literal["read_committed", "repeatable_read", "serializable"]
_ATTEMPTS = 6
_PAUSE_S = 0.02
_OLDEST = 160_000


class PostgresDriver:
    """Connections to the database at `address`. One driver may be shared by a backend, a state store and a
    cache; it belongs to one event loop.

    `pool_least` to `pool_most` connections; a caller who gets none within `pool_wait_s` gets Overloaded. A
    statement that takes longer than `statement_timeout_ms` is stopped (0: never). `rows_schema` is where the
    rows of tables are put. `statement_cache` is the number of prepared statements a connection keeps."""

    def __init__(
        self,
        address: Address | str,
        *,
        pool_least: int = 5,
        pool_most: int = 20,
        pool_wait_s: float = 10.0,
        statement_timeout_ms: int = 60_000,
        rows_schema: str = "public",
        statement_cache: int = 256,
    ) -> None:
        self.address = Address.parse(address) if isinstance(address, str) else address
        self.rows_schema = rows_schema
        self.identity = ""
        """Of the database, for ever: 32 hex digits, known once open. Dumps keep it."""
        self.incarnation = Incarnation("", "", frozenset())
        """What is numbered by the server's transactions means something within it only. The last one a
        connection has seen: another one after a crash of the server, while this is open. Known once open."""
        self.vector_schema = ""
        """The schema pgvector is in, known once open."""
        self.server_version = 0
        """180004 is 18.4. Known once open."""
        self.translated = Translated(self.address.display)
        self._statement_timeout_ms = statement_timeout_ms
        self._statement_cache = statement_cache
        self._opened = False
        self._lock = asyncio.Lock()
        self._pool = Pool(self._connect, least=pool_least, most=pool_most, wait_s=pool_wait_s)

    def __repr__(self) -> str:
        return f"PostgresDriver({self.address.display!r})"

    # --- opening and closing

    async def open(self) -> None:
        """Connects, installs pgvector where that is allowed, and migrates; writes nothing where all is
        current. May be called again.

        Raises BackendUnavailable, BackendError (no pgvector, no rights: the hint is the command to run),
        DatabaseNewer, InvalidInput (a schema `vectable` of another program, an encoding other than UTF8)."""
        async with self._lock:
            if self._opened:
                return
            with self.translated:
                first = await self._pool.patiently(lambda: first_connection(self.address))
                try:
                    await self._check(first)
                    there = await migrations.vector_schema(first)
                    self.vector_schema = await migrations.install_vector(first, self.address.display)
                    await migrations.migrate(first, self.address.display, made_extension=there is None)
                    self.identity, self.incarnation = await find_incarnation(first)
                finally:
                    await first.close(timeout=CLOSE_S)
                await self._pool.warm()
            self._opened = True

    async def _check(self, connection: Connection) -> None:
        self.server_version = int(await connection.fetchval("SELECT current_setting('server_version_num')"))
        if self.server_version < _OLDEST:
            raise BackendError(
                f"{self.address.display} runs PostgreSQL {self.server_version // 10_000}; 16 is the least",
                hint="upgrade the server",
            )
        encoding = await connection.fetchval("SELECT current_setting('server_encoding')")
        if encoding != "UTF8":
            raise InvalidInput(
                f"{self.address.display} is encoded as {encoding}",
                hint="create one with: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0;",
            )

    async def _connect(self) -> Connection:
        return await self._told(
            await connect(
                self.address,
                vector_schema=self.vector_schema,
                statement_timeout_ms=self._statement_timeout_ms,
                statement_cache=self._statement_cache,
            )
        )

    async def _told(self, connection: Connection) -> Connection:
        """The connection, which knows what it sees; the server may have been started anew, or the database
        restored, since the last one was made."""
        try:
            async with asyncio.timeout(self.address.connect_timeout_s):
                identity, connection.incarnation = await find_incarnation(connection)
            if identity != self.identity:
                raise BackendError(
                    f"{self.address.display} is another database than the one that was opened",
                    hint="open it anew",
                )
        except BaseException:
            connection.terminate()
            raise
        self.incarnation = connection.incarnation
        return connection

    async def close(self) -> None:
        """Closes every connection. May be called again."""
        self._opened = False
        await self._pool.close()

    async def leave(self) -> bool:
        """Closes; and where no table is left and nobody else at work, removes what was made for all tables,
        the cache included: the database's schema is as it was before we first opened it. Whether that was
        done."""
        await self.close()
        with self.translated:
            connection = await connect(self.address, vector_schema=None)
            try:
                async with connection.transaction():
                    return await leave(connection)
            finally:
                await connection.close(timeout=CLOSE_S)

    def pool_status(self) -> PoolStatus:
        """How many connections there are and how busy they are."""
        return self._pool.status()

    async def stored_bytes(self) -> int:
        """What is ours takes up, on disk: everything in the schema `vectable`, and the rows of tables we
        made."""

        async def run(connection: Connection) -> int:
            return int(
                await connection.fetchval(
                    "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint"
                    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                    " WHERE c.relkind IN ('r', 'm') AND (n.nspname = $1 OR EXISTS ("
                    "  SELECT FROM vectable.tables t WHERE t.attached IS NULL"
                    "  AND t.rows_schema = n.nspname AND t.rows_name = c.relname))",
                    SCHEMA,
                )
            )

        return await self.read(run)

    # --- reading and writing

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection, outside any transaction; errors within come out as ours. Every statement on it is a
        transaction of its own. Leave session settings as they are; SET LOCAL within a transaction is fine."""
        with self.translated:
            self._require_open()
            async with self._pool.connection() as connection:
                yield connection

    @asynccontextmanager
    async def apart(self) -> AsyncIterator[Connection]:
        """A connection beside the pool, for one long piece of work: no statement is stopped, and settings of
        the session may be changed. Errors within come out as ours."""
        with self.translated:
            self._require_open()
            connection = await self._told(
                await connect(self.address, vector_schema=self.vector_schema, statement_cache=0)
            )
            try:
                yield connection
            except BaseException:
                connection.terminate()
                raise
            await connection.close(timeout=CLOSE_S)

    async def read(self, function: Callable[[Connection], Awaitable[T]]) -> T:
        """What `function` reads, with a connection outside any transaction. It changes nothing, so it is
        called again on another connection when the first turns out to be gone."""
        return await self._repeat(function)

    async def transaction(
        self,
        function: Callable[[Connection], Awaitable[T]],
        *,
        isolation: Isolation = "read_committed",
        readonly: bool = False,
        statement_timeout_ms: int | None = None,
        xid_of: Callable[[T], int | None] | None = None,
    ) -> T:
        """Calls `function` in a transaction and commits: all of it happened, durably, or nothing.

        It is called again, from the start, after a deadlock, a serialisation failure, or when the connection
        was lost before COMMIT was sent: so it must do nothing beyond the connection. A connection lost during
        COMMIT raises OutcomeUnknown, unless `xid_of` tells the transaction's number (`pg_current_xact_id()`)
        from the result: then the server is asked what became of it. `statement_timeout_ms` is for this
        transaction (0: none)."""

        async def attempt(connection: Connection) -> T:
            transaction = connection.transaction(isolation=isolation, readonly=readonly)
            await transaction.start()
            try:
                if statement_timeout_ms is not None:
                    await connection.execute(f"SET LOCAL statement_timeout = {int(statement_timeout_ms)}")
                    connection.allow(statement_timeout_ms)
                result = await function(connection)
            except BaseException as error:
                # An interrupted statement leaves the connection in the middle of things: it is given up.
                whole = isinstance(error, Exception) and not isinstance(error, TimeoutError)
                if whole and not connection.is_closed():
                    await transaction.rollback()
                raise
            finally:
                if statement_timeout_ms is not None:
                    connection.allow(self._statement_timeout_ms)
            xid = None if xid_of is None else xid_of(result)
            await self._commit(transaction.commit, xid, connection.incarnation, readonly)
            return result

        return await self._repeat(attempt)

    async def _commit(
        self,
        commit: Callable[[], Awaitable[None]],
        xid: int | None,
        incarnation: Incarnation,
        readonly: bool,
    ) -> None:
        try:
            await commit()
        except TRANSLATED as error:
            if readonly or not (is_lost(error) or isinstance(error, TimeoutError)):
                raise
            status = await self._status_of(xid, incarnation)
            if status == "committed":
                return
            if status == "aborted":
                raise  # it surely did not happen: the connection is lost, and all starts again
            raise OutcomeUnknown(
                f"the connection to {self.address.display} was lost while a write was committed",
                hint="read to find out whether it happened",
            ) from error

    async def _status_of(self, xid: int | None, incarnation: Incarnation) -> str | None:
        """What became of the transaction of that incarnation, by the server's own account; None where it
        cannot be had."""
        if xid is None:
            return None
        for pause in (0.0, 0.05, 0.2, 0.5, 1.0, 2.0):
            await asyncio.sleep(pause)
            try:
                async with self._pool.connection() as connection:
                    status = await connection.fetchval("SELECT pg_xact_status($1::text::xid8)", str(xid))
                    same = connection.incarnation.holds(str(incarnation))
            except Exception:  # noqa: S112 - the server may be down; it is asked again
                continue
            if status == "committed" and not same:
                return None  # that, or another one that was given its number after a crash
            if status != "in progress":
                return None if status is None else str(status)
        return None

    async def _repeat(self, function: Callable[[Connection], Awaitable[T]]) -> T:
        self._require_open()

        async def once() -> T:
            async with self._pool.connection() as connection:
                return await function(connection)

        return await self.repeated(once)

    async def repeated(self, step: Callable[[], Awaitable[T]]) -> T:
        """What `step` gives. It is called again after what a connection of ours may meet by no fault of the
        caller's (see `transaction`), so a failed one must leave nothing behind. Errors come out as ours."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await step()
            except TRANSLATED as error:
                again = isinstance(error, RETRIED) or is_lost(error)
                if not again or attempt >= _ATTEMPTS:
                    raise translate(error, self.address.display) from error
            await asyncio.sleep(_PAUSE_S * 2**attempt * (0.5 + random.random()))  # noqa: S311

    def _require_open(self) -> None:
        if not self._opened:
            raise BackendError(f"the database {self.address.display} is not open")


async def is_prepared(address: Address | str) -> bool:
    """Whether the database at `address` has been opened by us before. Creates nothing. Raises what connecting
    raises, DatabaseNewer, and InvalidInput for a schema `vectable` of another program."""
    where = Address.parse(address) if isinstance(address, str) else address
    with Translated(where.display):
        connection = await connect(where, vector_schema=None)
        try:
            return await migrations.version_of(connection, where.display) > 0
        finally:
            await connection.close(timeout=CLOSE_S)
