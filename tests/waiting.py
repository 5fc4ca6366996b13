"""Waiting for what another thread, task or process brings about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")
LIMIT_S = 100.0
"""How long anything may take before a test gives up: far longer than it takes, on any machine."""


def until(found: Callable[[], T], wanted: Callable[[T], Any] = bool, pause_s: float = 0.02) -> T:
    """The first value that is as wanted; asks again and again. Fails after LIMIT_S."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        value = found()
        if wanted(value):
            return value
        assert time.monotonic() < deadline, f"it never came: {value!r}"
        time.sleep(pause_s)


async def until_async(
    found: Callable[[], Awaitable[T]], wanted: Callable[[T], Any] = bool, pause_s: float = 0.02
) -> T:
    """`until` on an event loop."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        value = await found()
        if wanted(value):
            return value
        assert time.monotonic() < deadline, f"it never came: {value!r}"
        await asyncio.sleep(pause_s)
