"""One worker thread per loaded model: passes queue on it, and a cancelled call stops before its next pass."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

from vectable.errors import ProviderError

T = TypeVar("T")


class Worker:
    """Where a loaded model runs, until it is closed. Everything may be called from any event loop."""

    def __init__(self, id: str, executor: Executor | None = None) -> None:
        """`id` is the model's, for errors. An `executor` given must have a single thread and stays open at
        `close`; without one the worker owns one."""
        self._id = id
        self._owned = None if executor else ThreadPoolExecutor(1, thread_name_prefix="vectable-infer")
        self._executor = executor or self._owned
        self._closed = False

    def require_open(self) -> None:
        """Raises ProviderError once `close` was called."""
        if self._closed:
            raise ProviderError(f"the model {self._id} was closed")

    async def run(self, work: Callable[[threading.Event], T]) -> T:
        """What `work` gives, on the thread, after what was asked for before. The event it is given is set
        when this call is cancelled. Raises ProviderError once `close` was called, and what `work` raises."""
        self.require_open()
        cancelled = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work, cancelled)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def stopped(self) -> ProviderError:
        """The error of work that found its call cancelled, or its model released."""
        return ProviderError(f"the call was cancelled, or the model {self._id} closed")

    async def close(self, release: Callable[[], None]) -> None:
        """Runs `release` on the thread, after the work queued, and ends a thread of its own. Called again,
        does nothing."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._executor, release)
        if self._owned is not None:
            self._owned.shutdown(wait=False)
