"""Contents on their way to a remote model: claimed, sent side by side, kept though others fail. The remote
model is simulated by the real hashing one, which fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from vectable import providers
from vectable.config import Settings
from vectable.core.vectors import Matrix
from vectable.engine.embed import Embedder, Failure
from vectable.engine.embed.claims import Claims
from vectable.engine.leases import this_process
from vectable.errors import BackendBusy, EndpointUnavailable, InvalidInput
from vectable.interfaces import Item, Purpose, VectorCache
from vectable.providers.hashing import HashingProvider
from vectable.state.memory import MemoryState, MemoryStateStore, MemoryVectorCache


class SimulatedRemote(HashingProvider):
    """Answers while `open` is set; refuses texts with "bad" in them; is down for those with "down"."""

    paid = True
    batch_tokens = 1_000
    max_batch = 4
    max_concurrency = 2

    def __init__(self) -> None:
        super().__init__(16, takes=frozenset({"text"}))
        self.open = asyncio.Event()
        self.open.set()
        self.sent: list[list[Item]] = []
        self.at_once = self.most_at_once = 0

    @property
    def texts(self) -> list[Item]:
        return [item for items in self.sent for item in items]

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> Matrix:
        self.sent.append(list(items))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.open.wait()
            await asyncio.sleep(0)
        finally:
            self.at_once -= 1
        if any("down" in str(item) for item in items):
            raise EndpointUnavailable("it is down")
        if any("bad" in str(item) for item in items):
            raise InvalidInput("it takes no bad texts")
        return await super().embed(items, purpose)


def embedder(
    remote: SimulatedRemote, state: MemoryState | None = None, cache: VectorCache | None = None
) -> Embedder:
    """That of one process."""
    store = None if state is None else MemoryStateStore(state)
    found = Embedder(providers, Settings(), cache or MemoryVectorCache(), state=store)
    found.models.add("m", remote)
    return found


async def until(condition: Any) -> None:
    async with asyncio.timeout(100):
        while not condition():
            await asyncio.sleep(0)


async def test_requests_are_packed_and_sent_side_by_side() -> None:
    remote = SimulatedRemote()
    found = await embedder(remote).encode([f"text {i}" for i in range(14)], "m")
    assert found.vectors.shape == (14, 16)
    assert sorted(map(len, remote.sent)) == [2, 4, 4, 4]
    assert remote.most_at_once == 2
    remote.sent.clear()
    remote.batch_tokens = 6
    await embedder(remote).encode(["one two three", "four five", "six seven eight nine ten eleven"], "m")
    assert sorted(map(len, remote.sent)) == [1, 2]


async def test_a_text_that_is_refused_is_found_by_halves() -> None:
    remote = SimulatedRemote()
    remote.max_batch = 64
    texts = [f"text {i}" for i in range(31)] + ["a bad one"]
    found = await embedder(remote).encode_each(texts, "m", normalized=True, use_cache=True)
    assert [isinstance(result, Failure) for result in found] == [False] * 31 + [True]
    assert len(remote.sent) == 11, "1 + 2 for each of 5 halvings"


async def test_when_all_are_refused_it_is_not_asked_for_each() -> None:
    remote = SimulatedRemote()
    remote.max_batch = 64
    texts = [f"bad {i}" for i in range(64)]
    found = await embedder(remote).encode_each(texts, "m", normalized=True, use_cache=True)
    assert all(isinstance(result, Failure) and not result.postponed for result in found)
    assert len(remote.sent) < 16


async def test_what_came_back_before_an_outage_is_kept() -> None:
    remote, cache = SimulatedRemote(), MemoryVectorCache()
    remote.max_concurrency = 1
    own = embedder(remote, cache=cache)
    texts = ["a", "b", "c", "d", "down", "e", "f", "g", "h"]
    found = await own.encode_each(texts, "m", normalized=True, use_cache=True)
    assert [isinstance(result, Failure) and result.postponed for result in found] == [False] * 4 + [True] * 5
    assert remote.sent == [["a", "b", "c", "d"], ["down", "e", "f", "g"]], "nothing more was tried"
    assert (await cache.size())[0] == 4
    with pytest.raises(EndpointUnavailable):
        await own.encode(texts, "m")


async def test_when_who_asked_first_goes_away_the_other_asks() -> None:
    remote = SimulatedRemote()
    remote.open.clear()
    shared = embedder(remote)
    first = asyncio.create_task(shared.encode(["a text"], "m"))
    others = [asyncio.create_task(shared.encode(["a text"], "m")) for _ in range(3)]
    await until(lambda: remote.sent)
    first.cancel()
    await until(lambda: len(remote.sent) == 2)
    remote.open.set()
    vectors = [found.vectors for found in await asyncio.gather(*others)]
    assert all((v == vectors[0]).all() for v in vectors)
    assert remote.sent == [["a text"]] * 2


async def test_of_two_processes_one_pays() -> None:
    remote, state, cache = SimulatedRemote(), MemoryState(), MemoryVectorCache()
    remote.open.clear()
    first, second = embedder(remote, state, cache), embedder(remote, state, cache)
    asked = asyncio.create_task(first.encode(["a", "b", "c"], "m"))
    await until(lambda: remote.sent)
    also = asyncio.create_task(second.encode(["b", "c", "d"], "m"))
    await until(lambda: len(remote.sent) == 2)
    assert remote.sent == [["a", "b", "c"], ["d"]], "what nobody is at work on is not waited for"
    remote.open.set()
    assert ((await asked).vectors[1:] == (await also).vectors[:2]).all()
    assert sorted(map(str, remote.texts)) == ["a", "b", "c", "d"]
    assert not [key for key in state.entries if key.startswith("claim/")], "claims are given back"


async def test_the_other_pays_when_the_first_fails() -> None:
    remote, state, cache = SimulatedRemote(), MemoryState(), MemoryVectorCache()
    remote.open.clear()
    asked = asyncio.create_task(embedder(remote, state, cache).encode(["a"], "m"))
    await until(lambda: remote.sent)
    also = asyncio.create_task(embedder(remote, state, cache).encode(["a"], "m"))
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    remote.open.set()
    assert (await also).vectors.shape == (1, 16)
    assert remote.texts == ["a", "a"]


async def test_what_was_paid_for_meanwhile_is_not_sent() -> None:
    remote, state, cache = SimulatedRemote(), MemoryState(), MemoryVectorCache()
    await embedder(remote, state, cache).encode(["a"], "m")

    class Late(MemoryVectorCache):
        """Learns of the vector between the first look and the claim."""

        looked = 0

        async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
            self.looked += 1
            return {} if self.looked == 1 else await cache.get_many(keys)

    found = await embedder(remote, state, Late()).encode(["a"], "m")
    assert remote.texts == ["a"]
    assert found.tokens == 0


async def test_nothing_is_claimed_where_nothing_is_shared() -> None:
    remote, state = SimulatedRemote(), MemoryState()
    own = embedder(remote, state)
    await own.encode(["a"], "m", cache=False)
    await own.encode_each(["a"], "m", normalized=True, use_cache=True, read_cache=False)
    remote.paid = False
    await own.encode(["b"], "m")
    assert state.revision == 0
    assert remote.texts == ["a", "a", "b"]


# -- claims --------------------------------------------------------------------------------------------------


async def test_claims_of_a_process_that_died_count_for_nothing() -> None:
    state = MemoryState()
    store = MemoryStateStore(state)
    gone = b'{"owner": "x", "pid": 999999999, "host": "%s", "expires": 99999999999}'
    here, elsewhere = gone % this_process()["host"].encode(), gone % b"another machine"
    late = b'{"owner": "x", "pid": 1, "host": "another machine", "expires": 1}'
    claims = {b"\1": here, b"\2": elsewhere, b"\3": late, b"\4": b"damaged"}
    await store.commit(puts={f"claim/{key.hex()}": claim for key, claim in claims.items()})
    async with Claims(store).take(list(claims)) as granted:
        assert granted == [b"\1", b"\3", b"\4"], "who is alive on another machine cannot be seen"
    assert list(state.entries) == ["claim/02"]


async def test_claims_nobody_comes_back_for_are_pruned() -> None:
    store = MemoryStateStore()
    left = b'{"owner": "x", "pid": 1, "host": "another machine", "expires": 1}'
    await store.commit(puts={"claim/01": left, "claim/02": b"damaged", "other": b"stays"})
    own = Claims(store)
    async with own.take([b"\3"]):
        await own.prune()
        assert list(await store.scan("")) == ["claim/03", "other"]


async def test_a_claim_that_could_not_be_given_back_is_no_obstacle_to_its_owner() -> None:
    state = MemoryState()
    store = MemoryStateStore(state)
    own = Claims(store)
    async with own.take([b"\1"]) as granted:
        assert granted == [b"\1"]
        async with own.take([b"\1"]) as again:
            assert again == []
        left = dict(state.entries)
    state.entries.update(left)
    async with own.take([b"\1"]) as granted:
        assert granted == [b"\1"]


async def test_where_nothing_can_be_claimed_all_is_granted() -> None:
    class Busy(MemoryStateStore):
        async def commit(self, *_: Any, **__: Any) -> None:
            raise BackendBusy("another process writes")

    async with Claims(Busy()).take([b"\1", b"\2"]) as granted:
        assert granted == [b"\1", b"\2"]
