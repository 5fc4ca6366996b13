"""The one event loop behind all synchronous handles of a process, on a thread of its own.

A call costs two thread switches (about 0.07 ms). Ctrl-C cancels the call and waits for its outcome; a
second one leaves at once. The loop closes what is open before the interpreter ends its thread pools.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

from vectable.errors import Unsupported
from vectable.handles.callers import ERRANDS

T = TypeVar("T")
_CLOSING_S = 30.0
_WINDOWS_POLL_S = 0.1
"""Waiting for a lock hides Ctrl-C on Windows, so there it is looked for this often."""


class Call:
    """One coroutine on its way: started on the loop, awaited by the thread that asked."""

    __slots__ = ("_cancelled", "_context", "_coroutine", "_errands", "_lock", "_loop", "_task", "finished")

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._lock = threading.Lock()
        self._lock.acquire()
        self._errands: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._context = contextvars.copy_context()
        self._context.run(ERRANDS.set, self._errand)
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False
        self.finished = False

    def start(self) -> None:
        """On the loop: begins."""
        self._task = self._loop.create_task(self._coroutine, context=self._context)
        self._task.add_done_callback(self._done)

    def _done(self, _: asyncio.Task[Any]) -> None:
        self.finished = True
        self._wake()

    def _wake(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            pass  # an errand woke the thread already, and it has not waited again yet

    async def _errand(self, function: Callable[[], Any]) -> Any:
        """On the loop: `function` runs on the thread that waits for this call, or, once nobody waits (a
        task the call left behind), on a worker."""
        if self.finished:
            return await asyncio.to_thread(function)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._errands.append((function, future))
        self._wake()
        return await future

    def result(self) -> Any:
        """On the thread that asked: the outcome, after the errands there are."""
        try:
            self._attend()
        except BaseException:
            self._loop.call_soon_threadsafe(self._cancel)
            self._attend()
            raise
        # Call and context refer to each other: what the task holds must not wait for the garbage collector.
        task, self._task = self._task, None
        assert task is not None  # noqa: S101 - it is finished
        if task.cancelled():
            raise Unsupported("the call was cancelled: the database was closed meanwhile")
        return task.result()

    def _cancel(self) -> None:
        if self._task is not None and not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    def _attend(self) -> None:
        """Waits for the end; runs the errands there are meanwhile, also those of cleaning up when
        cancelled."""
        while not self.finished:
            self._acquire()
            while self._errands:
                function, future = self._errands.pop()
                if not future.done():
                    self._run_errand(function, future)

    def _acquire(self) -> None:
        if sys.platform != "win32":
            self._lock.acquire()
            return
        while not self._lock.acquire(timeout=_WINDOWS_POLL_S):
            pass

    def _run_errand(self, function: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        try:
            value = function()
        except Exception as error:
            self._loop.call_soon_threadsafe(_settle, future, None, error)
        except BaseException:
            # Ctrl-C in the middle of it. After the call, for a task of it may wait for the errand, too.
            self._loop.call_soon_threadsafe(self._cancel)
            self._loop.call_soon_threadsafe(future.cancel)
            raise
        else:
            self._loop.call_soon_threadsafe(_settle, future, value, None)


def _settle(future: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


class _Begun(Awaitable[T]):
    def __init__(self, call: Call) -> None:
        self._call = call

    def __await__(self) -> Generator[Any, None, T]:
        result: T = self._call.result()
        return result
        yield  # which makes it a generator


class Loop:
    """Runs coroutines for other threads of the process that made it."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._closers: dict[int, Callable[[], Coroutine[Any, Any, None]]] = {}
        self._thread = threading.Thread(target=self._main, name="vectable", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    @property
    def usable(self) -> bool:
        """Whether this process may use it, and it still runs."""
        return self._process == os.getpid() and self._thread.is_alive()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result. Raises what it raises; Unsupported after a fork, from the loop's own
        thread, and at the end of the interpreter."""
        result: T = self._begun(coroutine).result()
        return result

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Starts the coroutine. To await its result holds the calling thread and never suspends. Raises as
        `run`."""
        return _Begun(self._begun(coroutine))

    def _begun(self, coroutine: Coroutine[Any, Any, T]) -> Call:
        try:
            self.check()
        except Unsupported:
            coroutine.close()
            raise
        call = Call(self._loop, coroutine)
        self._loop.call_soon_threadsafe(call.start)
        return call

    def check(self) -> None:
        """Raises Unsupported where this thread may not wait for the loop: see `run`."""
        problem = self._problem()
        if problem is not None:
            raise problem

    def _problem(self) -> Unsupported | None:
        if self._process != os.getpid():
            return Unsupported(
                "this handle belongs to another process: it was made before a fork",
                hint="connect in the process that uses it, or start workers with the spawn method",
            )
        if threading.get_ident() == self._thread.ident:
            return Unsupported(
                "a synchronous handle was used on Vectable's own event loop, where waiting would never end",
                hint="use connect_async and its handles inside coroutines",
            )
        if not self._thread.is_alive():
            return Unsupported("the interpreter is ending: Vectable's event loop has stopped")
        return None

    def iterate(self, make: Callable[[], AsyncIterator[T]]) -> Generator[T, None, None]:
        """The items of an asynchronous iterator, one call each; it is closed when this generator is."""
        source = make()
        try:
            while True:
                try:
                    found = self.run(_next(source))
                except StopAsyncIteration:
                    return
                yield found
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                self._finish(close)

    def _finish(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Closes, and waits for it where this thread may wait."""
        if self._problem() is None:
            self.run(_await(close))
        else:
            self.forget(close)

    def forget(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Starts `work` and does not wait: for finalisers, which run anywhere. Does nothing in another
        process."""
        if self.usable and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(_quietly(work)))

    def register(self, owner: object, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """`close` runs at the end of the interpreter, unless released before."""
        self._closers[id(owner)] = close

    def release(self, owner: object) -> None:
        """The owner is closed."""
        self._closers.pop(id(owner), None)

    def close(self) -> None:
        """Closes all that is open, then stops the loop and its thread. May be called twice."""
        if not self.usable:
            return
        closing = asyncio.run_coroutine_threadsafe(self._close_all(), self._loop)
        try:
            closing.result(_CLOSING_S)
        except TimeoutError:
            pass  # the interpreter ends all the same; what was acknowledged is durable
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSING_S)

    async def _close_all(self) -> None:
        closers = list(self._closers.values())
        self._closers.clear()
        await asyncio.gather(*(_quietly(close) for close in closers))
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()


async def _next(source: AsyncIterator[T]) -> T:
    return await source.__anext__()


async def _await(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return await work()


async def _quietly(work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    try:
        await work()
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)


_current: Loop | None = None
_guard = threading.Lock()


def current_loop() -> Loop:
    """The process's loop, started when first needed."""
    global _current
    with _guard:
        if _current is None or not _current.usable:
            _current = Loop()
        return _current


def _close_current() -> None:
    if _current is not None:
        _current.close()


def _after_fork() -> None:
    global _current, _guard
    _current, _guard = None, threading.Lock()


def _before_executors_end() -> None:
    """Registers the closing: thread pools end in `threading._shutdown`, before ordinary exit functions, and
    the functions registered last run first."""
    import concurrent.futures.thread  # noqa: F401 - registers its own, which must run after ours

    register = getattr(threading, "_register_atexit", atexit.register)
    try:
        register(_close_current)
    except RuntimeError:
        pass  # imported while the interpreter ends: nothing will be opened


_before_executors_end()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
