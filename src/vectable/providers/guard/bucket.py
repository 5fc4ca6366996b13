"""Token buckets: so much a minute on average, small bursts, first come first served."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds that only grow."""
_BURST = 10
"""A tenth of a minute's amount may go at once: no minute exceeds 1.1 times the limit."""


class TokenBucket:
    """`per_minute` units a minute; None: without limit. Thread-safe, bound to no event loop."""

    def __init__(self, per_minute: float | None, clock: Clock = time.monotonic) -> None:
        self._rate = per_minute / 60 if per_minute else 0.0
        self._capacity = max(1.0, per_minute / _BURST) if per_minute else 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._level = self._capacity
        self._at = clock()
        self._closed_until = 0.0

    def draw(self, amount: float) -> float:
        """Takes `amount` at once, on account, and gives the seconds to wait before using it. More than the
        bucket holds is let through once the bucket is full, and paid back by those who come later."""
        with self._lock:
            now = self._clock()
            wait = max(0.0, self._closed_until - now)
            if not self._rate:
                return wait
            self._refill(now)
            missing = min(amount, self._capacity) - self._level
            self._level -= amount
            return max(wait, missing / self._rate)

    def give_back(self, amount: float) -> None:
        """Returns what was drawn and not used; a negative amount is drawn late."""
        if self._rate:
            with self._lock:
                self._refill(self._clock())
                self._level = min(self._capacity, self._level + amount)

    def close_for(self, seconds: float) -> None:
        """Lets nothing through for that long: the endpoint asked for it."""
        with self._lock:
            self._closed_until = max(self._closed_until, self._clock() + seconds)

    def _refill(self, now: float) -> None:
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now

    async def take(self, amount: float) -> None:
        """Waits for `amount`. Cancelled, it returns what it had drawn."""
        wait = self.draw(amount)
        try:
            while wait > 0:
                await asyncio.sleep(wait)
                wait = self._closed_until - self._clock()
        except asyncio.CancelledError:
            self.give_back(amount)
            raise
