"""Conformance tests for state stores and vector caches. Subclass, give the fixture, and run with pytest."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vectable.errors import Conflict
from vectable.interfaces import StateStore, VectorCache
from vectable.testing.samples import HOSTILE_STRINGS


class StoreSuite:
    """What every StateStore keeps. A subclass gives a fixture `store`: an open, empty StateStore."""

    async def test_what_is_put_can_be_read(self, store: StateStore) -> None:
        await store.commit(puts={"a": b"1", "b": b"\x00\xff", "empty": b""})
        entries = await store.get(["b", "a", "missing", "empty"])
        assert {k: e.value for k, e in entries.items()} == {"a": b"1", "b": b"\x00\xff", "empty": b""}
        assert all(e.revision > 0 for e in entries.values())
        assert await store.get([]) == {}

    async def test_a_commit_of_nothing_does_nothing(self, store: StateStore) -> None:
        await store.commit()
        assert await store.scan("") == {}

    async def test_expectations_guard_a_commit(self, store: StateStore) -> None:
        await store.commit(expects={"a": 0}, puts={"a": b"1"})
        with pytest.raises(Conflict):
            await store.commit(expects={"a": 0}, puts={"a": b"2"})
        revision = (await store.get(["a"]))["a"].revision
        await store.commit(expects={"a": revision}, puts={"a": b"2"})
        with pytest.raises(Conflict):
            await store.commit(expects={"a": revision}, deletes=["a"])
        assert (await store.get(["a"]))["a"].value == b"2"

    async def test_a_refused_commit_changes_nothing(self, store: StateStore) -> None:
        await store.commit(puts={"a": b"1", "b": b"1"})
        before = await store.scan("")
        with pytest.raises(Conflict):
            await store.commit(
                expects={"a": before["a"].revision, "b": before["b"].revision + 1_000_000},
                puts={"a": b"2", "c": b"2"},
                deletes=["b"],
            )
        assert await store.scan("") == before

    async def test_expectations_may_be_about_keys_that_are_not_written(self, store: StateStore) -> None:
        await store.commit(puts={"fence": b"1"})
        fence = (await store.get(["fence"]))["fence"].revision
        await store.commit(puts={"fence": b"2"})
        with pytest.raises(Conflict):
            await store.commit(expects={"fence": fence}, puts={"work": b"done"})
        assert await store.get(["work"]) == {}

    async def test_deleting_removes_and_repeats(self, store: StateStore) -> None:
        await store.commit(puts={"a": b"1", "b": b"1"})
        await store.commit(deletes=["a", "missing"])
        await store.commit(deletes=["a"])
        assert list(await store.scan("")) == ["b"]

    async def test_a_revision_never_comes_back(self, store: StateStore) -> None:
        seen = set()
        for round_ in range(4):
            await store.commit(puts={"a": str(round_).encode()})
            seen.add((await store.get(["a"]))["a"].revision)
            if round_ % 2:
                await store.commit(deletes=["a"])
        assert len(seen) == 4

    @pytest.mark.parametrize(
        "prefix", ["t/", "t%", "t_", "t\\", "é", "日本", "🦀", "T/", "'", '"', "[", "*", "t?"]
    )
    async def test_a_scan_takes_its_prefix_literally(self, store: StateStore, prefix: str) -> None:
        inside = {prefix, prefix + "a", prefix + "\uffff", prefix + "\U0010ffff", prefix + "%", prefix * 2}
        outside = {"x" + prefix, "t", "tX", "e", "\U0010ffff", "", "tt/", "日"} - inside
        outside = {key for key in outside if not key.startswith(prefix)}
        await store.commit(puts={key: key.encode() for key in inside | outside})
        found = await store.scan(prefix)
        assert list(found) == sorted(inside)
        assert {k: e.value for k, e in found.items()} == {k: k.encode() for k in inside}

    async def test_a_scan_of_everything_is_ordered_by_code_point(self, store: StateStore) -> None:
        keys = sorted({*HOSTILE_STRINGS, "\uffff", "\U00010000", "Z", "a", "É", "é"})
        await store.commit(puts=dict.fromkeys(reversed(keys), b"x"))
        assert list(await store.scan("")) == keys
        assert set(await store.get(keys)) == set(keys)

    async def test_large_values_are_kept_whole(self, store: StateStore) -> None:
        value = bytes(range(256)) * 4096
        await store.commit(puts={"large": value})
        assert (await store.get(["large"]))["large"].value == value

    async def test_of_racing_compare_and_sets_one_wins(self, store: StateStore) -> None:
        async def attempt(number: int) -> bool:
            try:
                await store.commit(expects={"lease": 0}, puts={"lease": str(number).encode()})
            except Conflict:
                return False
            return True

        won = await asyncio.gather(*(attempt(i) for i in range(16)))
        assert won.count(True) == 1
        assert (await store.get(["lease"]))["lease"].value == str(won.index(True)).encode()

    async def test_racing_counters_lose_no_step(self, store: StateStore) -> None:
        await store.commit(puts={"n": b"0"})

        async def step() -> None:
            while True:
                entry = (await store.get(["n"]))["n"]
                try:
                    await store.commit({"n": entry.revision}, {"n": str(int(entry.value) + 1).encode()})
                except Conflict:
                    continue
                return

        await asyncio.gather(*(step() for _ in range(12)))
        assert (await store.get(["n"]))["n"].value == b"12"


class CacheSuite:
    """What every VectorCache keeps. A subclass gives a fixture `cache`: an open, empty VectorCache."""

    async def test_what_is_put_can_be_read(self, cache: VectorCache) -> None:
        items = {bytes([i]) * 32: bytes([i]) * 16 for i in range(5)}
        await cache.put_many(items, "model@1")
        assert await cache.get_many([*items, b"\xff" * 32]) == items
        assert await cache.get_many([]) == {}
        assert await cache.size() == (5, 80)

    async def test_putting_again_replaces(self, cache: VectorCache) -> None:
        await cache.put_many({b"k" * 32: b"old!"}, "model@1")
        await cache.put_many({b"k" * 32: b"newer!!!"}, "model@1")
        assert await cache.get_many([b"k" * 32]) == {b"k" * 32: b"newer!!!"}
        assert await cache.size() == (1, 8)

    async def test_many_keys_at_once(self, cache: VectorCache) -> None:
        items = {i.to_bytes(32, "big"): i.to_bytes(4, "big") for i in range(3_000)}
        await cache.put_many(items, "model@1")
        assert await cache.get_many(list(items)) == items

    async def test_scanning_walks_every_entry_once(self, cache: VectorCache) -> None:
        items = {i.to_bytes(32, "big"): i.to_bytes(4, "big") for i in range(1, 26)}
        await cache.put_many({k: v for k, v in items.items() if v[-1] % 2}, "odd@1")
        await cache.put_many({k: v for k, v in items.items() if not v[-1] % 2}, "even@1")
        found: list[tuple[bytes, bytes, str]] = []
        while page := await cache.scan(found[-1][0] if found else b"", limit=10):
            assert len(page) <= 10
            found += [(bytes(key), bytes(vector), model) for key, vector, model in page]
        assert found == [(k, v, "odd@1" if v[-1] % 2 else "even@1") for k, v in sorted(items.items())]
        assert not list(await cache.scan(b"\xff" * 33))

    async def test_clearing_removes_everything_and_counts(self, cache: VectorCache) -> None:
        await cache.put_many({bytes([i]) * 32: b"1234" for i in range(3)}, "model@1")
        assert await cache.clear() == 3
        assert await cache.size() == (0, 0)
        assert await cache.clear() == 0

    async def test_pruning_drops_the_oldest(self, cache: VectorCache) -> None:
        for i in range(10):
            await cache.put_many({bytes([i]) * 32: b"x" * 100}, "model@1")
        assert await cache.prune(10_000) == 0
        dropped = await cache.prune(450)
        entries, size = await cache.size()
        assert (dropped + entries, size) == (10, entries * 100)
        assert size <= 450
        kept: dict[bytes, Any] = await cache.get_many([bytes([i]) * 32 for i in range(10)])
        assert sorted(kept) == [bytes([i]) * 32 for i in range(10 - entries, 10)]
        assert await cache.prune(0) == entries
        assert await cache.size() == (0, 0)

    async def test_racing_writers_keep_everything(self, cache: VectorCache) -> None:
        groups = [{bytes([i, j]) * 16: bytes([i, j]) * 4 for j in range(20)} for i in range(8)]
        await asyncio.gather(*(cache.put_many(group, "model@1") for group in groups))
        together = {k: v for group in groups for k, v in group.items()}
        assert await cache.get_many(list(together)) == together
