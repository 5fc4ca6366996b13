"""The vector cache in two tiers: what memory keeps and for how long, and what the store behind is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vectable.engine.embed.tiers import CacheTiers
from vectable.errors import DiskFull
from vectable.state.memory import MemoryVectorCache


class Store(MemoryVectorCache):
    """The real store in memory, telling what it was asked for, and with a disk that can be full."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bytes] = []
        self.full = False

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        self.asked.extend(keys)
        return await super().get_many(keys)

    async def put_many(self, items: Mapping[bytes, bytes], model: str) -> None:
        if self.full:
            raise DiskFull("the disk is full")
        await super().put_many(items, model)


@dataclass
class Tiers:
    """Three entries in memory, an hour each, by a clock that is moved by hand."""

    store: Store = field(default_factory=Store)
    now: float = 1_000.0
    max_entries: int = 3
    max_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        self.cache = CacheTiers(self.store, self.max_entries, 3_600_000, self.max_bytes, lambda: self.now)

    async def put(self, *keys: str) -> None:
        for key in keys:
            await self.cache.put_many({key.encode(): f"vector of {key}".encode()}, "m")

    async def asks_the_store(self, key: str) -> bool:
        """Whether reading this entry goes past memory."""
        self.store.asked.clear()
        found = await self.cache.get_many([key.encode()])
        assert found == {key.encode(): f"vector of {key}".encode()}, "whichever tier answers, it is the same"
        return self.store.asked == [key.encode()]

    def stat(self, name: str) -> Any:
        return self.cache.stats()[name]


async def test_what_was_used_longest_ago_goes_first() -> None:
    tiers = Tiers()
    await tiers.put("a", "b", "c")
    assert not await tiers.asks_the_store("a")
    await tiers.put("d")
    assert (tiers.stat("size"), tiers.stat("max_size"), tiers.stat("evictions")) == (3, 3, 1)
    assert [await tiers.asks_the_store(key) for key in "acd"] == [False, False, False]
    assert await tiers.asks_the_store("b")
    assert not await tiers.asks_the_store("b"), "found on disk, it is in memory again"


async def test_an_entry_lives_its_time_however_often_it_is_used() -> None:
    tiers = Tiers()
    await tiers.put("a")
    for _ in range(3):
        tiers.now += 1_199
        assert not await tiers.asks_the_store("a")
    tiers.now += 3
    assert tiers.stat("bytes") == 0
    assert await tiers.asks_the_store("a")
    assert not await tiers.asks_the_store("a")
    assert tiers.stat("evictions") == 0, "what is over was not pushed out"


async def test_hits_of_either_tier_and_misses_are_counted() -> None:
    tiers = Tiers()
    await tiers.put("a", "b")
    assert set(await tiers.cache.get_many([b"a", b"a", b"x"])) == {b"a"}
    assert (tiers.stat("hits"), tiers.stat("misses")) == (2, 1)
    assert tiers.store.asked == [b"x"], "only what memory does not know is looked up on disk"
    await tiers.cache.clear(persistent=False)
    assert await tiers.asks_the_store("b")
    assert (tiers.stat("hits"), tiers.stat("misses")) == (3, 1)


async def test_clearing_counts_what_went_and_is_no_eviction() -> None:
    tiers = Tiers()
    await tiers.put("a", "b", "c", "d")
    assert await tiers.cache.clear(persistent=False) == 3
    assert (tiers.stat("size"), tiers.stat("evictions")) == (0, 1)
    assert await tiers.cache.clear(persistent=True) == 4
    assert await tiers.cache.get_many([b"a", b"d"]) == {}


async def test_without_a_memory_tier_the_store_answers() -> None:
    tiers = Tiers(max_entries=0)
    await tiers.put("a")
    assert await tiers.asks_the_store("a")
    assert await tiers.asks_the_store("a")


async def test_a_full_disk_costs_no_vector() -> None:
    tiers = Tiers()
    tiers.store.full = True
    await tiers.put("a")
    assert not await tiers.asks_the_store("a")


async def test_the_store_is_kept_within_its_bytes() -> None:
    tiers = Tiers(max_bytes=200)
    await tiers.put(*(f"{i:03}" for i in range(100)))
    kept = [i for i in range(100) if await tiers.store.get_many([f"{i:03}".encode()])]
    assert 0 < len(kept) < 100
    assert kept[-1] == 99 and kept == list(range(kept[0], 100)), "the oldest went first"
