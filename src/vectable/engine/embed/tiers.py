"""The vector cache in two tiers: a bounded memory tier with a time to live over the persistent store."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cachetools import TTLCache

from vectable.errors import BackendError
from vectable.interfaces import VectorCache

log = logging.getLogger(__name__)
_KEY = 32
_OVERHEAD = 200
"""Bytes a memory entry costs beside its vector: two bytes objects, the dictionary slots, the expiry link."""
_GATHER_S = 0.05
"""For so long vectors gather before they are written, unless somebody waits for that: a commit for each would
take cores from the model."""


class _Memory(TTLCache[bytes, bytes]):
    """Knows how much it holds without a look at each entry."""

    evictions = 0
    held_bytes = 0

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.expire()
        before = self.get(key)
        super().__setitem__(key, value)
        self.held_bytes += len(value) - (0 if before is None else len(before))

    def expire(self, time: float | None = None) -> list[tuple[bytes, bytes]]:
        expired = list(super().expire(time))
        self.held_bytes -= sum(len(value) for _, value in expired)
        return expired

    def popitem(self) -> tuple[bytes, bytes]:
        self.evictions += 1
        key, value = super().popitem()
        self.held_bytes -= len(value)
        return key, value

    def clear(self) -> None:
        super().clear()
        self.held_bytes = 0


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
        self._unwritten: dict[bytes, tuple[bytes, str]] = {}
        self._writer: asyncio.Task[None] | None = None
        self._round: asyncio.Future[None]
        """Of the batch under way, or gathering."""
        self._awaited = asyncio.Event()
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
            # Others may have computed some of them meanwhile.
            for key in absent:
                if key not in found and (vector := self._just_computed(key)) is not None:
                    found[key] = vector
        self.hits += sum(key in found for key in keys)
        self.misses += sum(key not in found for key in keys)
        return found

    def at_hand(self, keys: Sequence[bytes]) -> dict[bytes, bytes] | None:
        """All of the vectors, where memory has all of them; else None, and nothing is counted."""
        found: dict[bytes, bytes] = {}
        for key in keys:
            vector = self._memory.get(key)
            if vector is None:
                return None
            found[key] = vector
        self.hits += len(keys)
        return found

    async def all_of(self, keys: Sequence[bytes]) -> dict[bytes, bytes] | None:
        """All of the vectors, where the two tiers have all; else None, and nothing is counted."""
        found = {key: vector for key in keys if (vector := self._just_computed(key)) is not None}
        found |= await self.look_again([key for key in dict.fromkeys(keys) if key not in found])
        if any(key not in found for key in keys):
            return None
        self.hits += len(keys)
        return found

    def _just_computed(self, key: bytes) -> bytes | None:
        unwritten = self._unwritten.get(key)
        return self._memory.get(key) if unwritten is None else unwritten[0]

    async def look_again(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The vectors that were missed and are on disk by now; counted neither as hits nor as misses."""
        found = await self._persistent.get_many(keys) if keys else {}
        self._remember(found)
        return found

    def put_soon(self, items: Mapping[bytes, bytes], model: str) -> None:
        """Keeps vectors in memory at once, and on disk a moment later, together with those that follow:
        whoever wants them does not wait for that."""
        self._remember(items)
        self._unwritten.update((key, (vector, model)) for key, vector in items.items())
        if self._writer is None:
            self._round = asyncio.get_running_loop().create_future()
            self._writer = asyncio.create_task(self._write_soon(), context=contextvars.Context())

    async def _write_soon(self) -> None:
        try:
            while self._unwritten:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._awaited.wait(), _GATHER_S)
                self._awaited.clear()
                batch = dict(self._unwritten)
                by_model: dict[str, dict[bytes, bytes]] = {}
                for key, (vector, model) in batch.items():
                    by_model.setdefault(model, {})[key] = vector
                for model, vectors in by_model.items():
                    await self._write(vectors, model)
                for key, written in batch.items():
                    if self._unwritten.get(key) is written:
                        del self._unwritten[key]
                done, self._round = self._round, asyncio.get_running_loop().create_future()
                done.set_result(None)
        finally:
            self._writer = None
            if not self._round.done():
                self._round.set_result(None)

    async def settled(self) -> None:
        """Returns once everything put before is on disk, as far as it can be written."""
        # What was put is part of the batch under way or of the one after it.
        for _ in range(2):
            if self._writer is not None:
                self._awaited.set()
                await asyncio.shield(self._round)

    async def put_many(self, items: Mapping[bytes, bytes], model: str) -> None:
        """Keeps vectors in both tiers; on disk as far as it can be written: nothing depends on it."""
        self._remember(items)
        await self._write(items, model)

    async def _write(self, items: Mapping[bytes, bytes], model: str) -> None:
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
        self._memory.expire()
        size = self._memory.held_bytes + len(self._memory) * (_KEY + _OVERHEAD)
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
        await self.settled()
        cleared = len(self._memory)
        self._memory.clear()
        if persistent:
            cleared = max(cleared, await self._persistent.clear())
        return cleared
