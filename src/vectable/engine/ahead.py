"""Works on what comes next while what came before is still being dealt with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def one_ahead(draw: Callable[[], Awaitable[T | None]]) -> AsyncGenerator[T, None]:
    """What `draw` gives until it gives None, each drawn while the caller still has the one before. An error
    of `draw` comes in its turn. Close it (`aclosing`): that waits for a draw under way, on whatever thread
    that is, so that nobody draws from the source afterwards."""
    upcoming = asyncio.ensure_future(draw())
    try:
        while (drawn := await upcoming) is not None:
            upcoming = asyncio.ensure_future(draw())
            yield drawn
    finally:
        await asyncio.wait([upcoming])
        if not upcoming.cancelled():
            upcoming.exception()
