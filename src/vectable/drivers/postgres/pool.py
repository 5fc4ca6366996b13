"""A pool of connections: bounded, fair, quick to notice that one is gone, and never a wait without an end."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from vectable.drivers.postgres.connection import CLOSE_S, Connection
from vectable.drivers.postgres.failures import CONFUSED, STARTING
from vectable.errors import BackendError, Overloaded

_IDLE_S = 300.0
_STARTING_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """`open` connections, `least` to `most` of them: `busy` are in use, `idle` are not. `waiting` callers,
    each at most `wait_ms`; since the pool was opened `waited` had to wait and `refused` did so in vain."""

    least: int
    most: int
    wait_ms: int
    open: int
    busy: int
    idle: int
    waiting: int
    waited: int
    refused: int


class Pool:
    """At most `most` connections, made when needed; `least` of them stay open while nothing happens.

    A caller who finds all in use waits its turn, at most `wait_s`; then Overloaded. Belongs to the event loop
    that first uses it."""

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], *, least: int, most: int, wait_s: float
    ) -> None:
        self._connect = connect
        self._least, self._most, self._wait_s = least, most, wait_s
        self._idle: list[tuple[Connection, float]] = []
        self._open = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._waited = 0
        self._refused = 0
        self._closed = False
        self._closing: set[asyncio.Task[None]] = set()
        self._trim: asyncio.TimerHandle | None = None

    def status(self) -> PoolStatus:
        """Where it stands."""
        return PoolStatus(
            least=self._least,
            most=self._most,
            wait_ms=round(self._wait_s * 1000),
            open=self._open,
            busy=self._open - len(self._idle),
            idle=len(self._idle),
            waiting=len(self._waiters),
            waited=self._waited,
            refused=self._refused,
        )

    async def warm(self) -> None:
        """Opens the `least` connections. Raises what connecting raises."""
        missing = self._least - self._open
        self._open += max(0, missing)
        made = await asyncio.gather(*(self._made() for _ in range(missing)), return_exceptions=True)
        for each in made:
            if not isinstance(each, BaseException):
                self._put_back(each)
        for each in made:
            if isinstance(each, BaseException):
                raise each

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One connection, outside any transaction. It is given up, not back, when the caller was interrupted
        within a statement or left a transaction open. Raises Overloaded, and what connecting raises."""
        connection = await self.acquire()
        try:
            yield connection
        except (asyncio.CancelledError, TimeoutError, GeneratorExit):
            self._discard(connection)
            raise
        except CONFUSED:
            connection.terminate()
            self.release(connection)
            raise
        except BaseException:
            self.release(connection)
            raise
        else:
            self.release(connection)

    async def acquire(self) -> Connection:
        """See `connection`; give it back with `release`."""
        deadline = time.monotonic() + self._wait_s
        while True:
            if self._closed:
                raise BackendError("the database is closed")
            while self._idle:
                connection, _ = self._idle.pop()
                if not connection.is_closed():
                    return connection
                self._open -= 1
            if self._open < self._most:
                self._open += 1
                return await self._made(deadline)
            await self._turn(deadline)

    async def _turn(self, deadline: float) -> None:
        self._waited += 1
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await turn
        except TimeoutError:
            self._refused += 1
            self._pass_on(turn)
            raise Overloaded(
                f"all {self._most} connections to PostgreSQL stayed in use for {self._wait_s:g} s",
                hint="try again in a moment, or raise postgres_pool_max",
                context={"retry_after_s": 1, "pool": self._most},
            ) from None
        except BaseException:
            self._pass_on(turn)
            raise

    def _pass_on(self, turn: asyncio.Future[None]) -> None:
        """A turn that nobody takes any more goes to the next in line."""
        if turn in self._waiters:
            self._waiters.remove(turn)
        elif turn.done() and not turn.cancelled():
            self._wake()

    def _wake(self) -> None:
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def _made(self, deadline: float | None = None) -> Connection:
        """A new connection, for a place already counted; a server that is starting is waited for."""
        try:
            return await self.patiently(self._connect, deadline)
        except BaseException:
            self._open -= 1
            self._wake()
            raise

    async def patiently(
        self, connect: Callable[[], Awaitable[Connection]], deadline: float | None = None
    ) -> Connection:
        """A connection, not counted; a server that is starting is waited for until `deadline`, by default as
        long as for a turn."""
        until = time.monotonic() + self._wait_s if deadline is None else deadline
        while True:
            try:
                return await connect()
            except STARTING:
                if time.monotonic() + _STARTING_PAUSE_S > until:
                    raise
                await asyncio.sleep(_STARTING_PAUSE_S)

    def release(self, connection: Connection) -> None:
        """Gives it back. One that is closed, or in a transaction, is given up."""
        if not connection.is_closed() and connection.is_in_transaction():
            self._discard(connection)
        else:
            self._put_back(connection)

    def _put_back(self, connection: Connection) -> None:
        if connection.is_closed() or self._closed:
            self._open -= 1
            connection.terminate()
        else:
            self._idle.append((connection, time.monotonic()))
            if self._trim is None and len(self._idle) > self._least:
                self._trim = asyncio.get_running_loop().call_later(_IDLE_S, self._close_idle)
        self._wake()

    def _discard(self, connection: Connection) -> None:
        """Closes it behind the caller's back: closing waits until the server has stopped the statement."""
        task = asyncio.ensure_future(self._close_one(connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_one(self, connection: Connection) -> None:
        try:
            await connection.close(timeout=CLOSE_S)
        except Exception:
            connection.terminate()
        finally:
            self._open -= 1
            self._wake()

    def _close_idle(self) -> None:
        """Closes what has not been used for long, beyond those that stay."""
        self._trim = None
        before = time.monotonic() - _IDLE_S
        spare = len(self._idle) - self._least
        old = [each for each in self._idle if each[1] <= before][: max(0, spare)]
        for each in old:
            self._idle.remove(each)
            self._discard(each[0])
        if len(self._idle) > self._least and not self._closed:
            self._trim = asyncio.get_running_loop().call_later(_IDLE_S, self._close_idle)

    async def close(self) -> None:
        """Closes every connection that is not in use; the others when they come back. May be called again."""
        self._closed = True
        if self._trim is not None:
            self._trim.cancel()
            self._trim = None
        for connection, _ in self._idle:
            self._discard(connection)
        self._idle.clear()
        while self._waiters:
            self._wake()
        if self._closing:
            await asyncio.wait(list(self._closing))
