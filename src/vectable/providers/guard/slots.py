"""Concurrency per host: so many requests at once to one host, whichever models they are for."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator


class HostSlots:
    """At most `limit` holders at once on each event loop; who comes first is served first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            weakref.WeakKeyDictionary()
        )

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Holds a slot for the block."""
        loop = asyncio.get_running_loop()
        semaphore = self._by_loop.setdefault(loop, asyncio.Semaphore(self.limit))
        async with semaphore:
            self.in_use += 1
            try:
                yield
            finally:
                self.in_use -= 1
