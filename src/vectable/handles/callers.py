"""Where code of the user's own runs while a handle works: never on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Errands(Protocol):
    """Runs a function elsewhere and gives its result."""

    def __call__(self, function: Callable[[], Any], /) -> Awaitable[Any]: ...


ERRANDS: ContextVar[Errands | None] = ContextVar("vectable_errands", default=None)
"""Set by the synchronous façade: the calling thread, which waits anyway, runs what it gave itself. So a
generator of rows may use its thread's own connections, and synchronous handles, too."""


async def off_loop(function: Callable[[], T]) -> T:
    """The result of `function`, run on the thread that called the synchronous façade, else on a worker."""
    errands = ERRANDS.get()
    result: T = await (asyncio.to_thread(function) if errands is None else errands(function))
    return result
