"""The vector cache in two tiers: a bounded memory tier with a time to live over the persistent store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cachetools import TTLCache

from vectable.errors import BackendError
from vectable.interfaces import VectorCache

log = logging.getLogger(__name__)
_OVERHEAD = 200
"""Bytes a memory entry costs beside its vector: two bytes objects, the dictionary slots, the expiry link."""


class _Memory(TTLCache[bytes, bytes]):
    evictions = 0

    def popitem(self) -> tuple[bytes, bytes]:
        self.evictions += 1
        return super().popitem()


class CacheTiers:
    """Not thread-safe: used from the event loop only. Hits in either tier count as hits. Memory gives up
    what was used longest ago, and everything `ttl_ms` after it entered, by `clock` in seconds."""

    def __init__(
        self,
        persistent: VectorCache,
        max_entries: int,
        ttl_ms: int,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._memory = _Memory(maxsize=max(max_entries, 0), ttl=ttl_ms / 1000, timer=clock)
        self._persistent = persistent
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._unpruned = 0
        self.hits = 0
        self.misses = 0

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The vectors known, by content key. Entries found on disk enter the memory tier."""
        found: dict[bytes, bytes] = {}
        absent: list[bytes] = []
        for key in dict.fromkeys(keys):
            vector = self._memory.get(key)
            if vector is None:
                absent.append(key)
            else:
                found[key] = vector
        if absent:
            stored = await self._persistent.get_many(absent)
            self._remember(stored)
            found |= stored
        self.hits += sum(key in found for key in keys)
        self.misses += sum(key not in found for key in keys)
        return found

    async def look_again(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The vectors that were missed and are on disk by now; counted neither as hits nor as misses."""
        found = await self._persistent.get_many(keys) if keys else {}
        self._remember(found)
        return found

    async def put_many(self, items: Mapping[bytes, bytes], model: str) -> None:
        """Keeps vectors in both tiers; on disk as far as it can be written: nothing depends on it."""
        self._remember(items)
        self._unpruned += sum(len(v) for v in items.values())
        try:
            await self._persistent.put_many(items, model)
            if self._unpruned > self._max_bytes // 20:
                self._unpruned = 0
                await self._persistent.prune(self._max_bytes)
        except BackendError as error:
            log.info("vectors stay out of the cache on disk: %s", error)

    def _remember(self, items: Mapping[bytes, bytes]) -> None:
        if self._max_entries > 0:
            for key, vector in items.items():
                self._memory[key] = vector

    def stats(self) -> dict[str, Any]:
        """Size, limit, hits, misses, evictions and bytes of the memory tier."""
        size = sum(len(v) + len(k) + _OVERHEAD for k, v in list(self._memory.items()))
        return {
            "size": len(self._memory),
            "max_size": self._max_entries,
            "hits": self.hits,
            "misses": self.misses,
            "evictions": self._memory.evictions,
            "bytes": size,
        }

    async def clear(self, persistent: bool) -> int:
        """Empties the memory tier, or both; how many entries went from the larger one."""
        cleared = len(self._memory)
        self._memory.clear()
        if persistent:
            cleared = max(cleared, await self._persistent.clear())
        return cleared
