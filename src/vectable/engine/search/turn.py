"""Turns: short work on the event loop, one piece a pass."""

from __future__ import annotations

import asyncio


class Turn:
    """`async with turn:` lets one in, and the next only after another pass of the loop, which hears of new
    connections and answers in between."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._waiting = 0

    @property
    def crowded(self) -> bool:
        """Whether others wait already: then more than the next pass would have to be waited for."""
        return self._waiting > 0

    async def __aenter__(self) -> None:
        self._waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().call_soon(self._lock.release)
