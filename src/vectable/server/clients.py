"""How much of a server one client may take: so many requests a minute, a tenth of them at once."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from vectable.errors import RateLimited

_BURST = 10
_MOST_CLIENTS = 10_000
"""Those heard of longest ago are forgotten: their buckets are full again, unless so many came since."""


class Clients:
    """A token bucket for each client. `per_minute` 0: nobody is limited."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._capacity = max(1.0, per_minute / _BURST)
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """(What is left, when it was so), the client heard of last at the end."""

    def admit(self, client: str) -> None:
        """Counts a request. Raises RateLimited with `retry_after_s`, and then does not count it."""
        if not self._rate:
            return
        now = self._clock()
        level, at = self._levels.pop(client, (self._capacity, now))
        level = min(self._capacity, level + (now - at) * self._rate)
        enough = level >= 1
        self._levels[client] = (level - 1 if enough else level, now)
        if len(self._levels) > _MOST_CLIENTS:
            self._levels.popitem(last=False)
        if not enough:
            seconds = max(1, math.ceil((1 - level) / self._rate))
            raise RateLimited(
                "this client sends more requests than one may",
                hint=f"come back in {seconds} s, with {self._rate * 60:.0f} requests a minute at most",
                context={"retry_after_s": seconds},
            )
