"""The state store and the cache in PostgreSQL: the suites, and what only several connections show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from vectable.drivers.postgres import PostgresDriver
from vectable.errors import BackendError, Conflict
from vectable.state.postgres import PostgresStateStore, PostgresVectorCache
from vectable.testing.store_suite import CacheSuite, StoreSuite


@pytest.fixture
async def driver(postgres_url: str) -> AsyncIterator[PostgresDriver]:
    driver = PostgresDriver(postgres_url, pool_least=1)
    await driver.open()
    yield driver
    await driver.close()


@pytest.fixture
async def other(driver: PostgresDriver, postgres_url: str) -> AsyncIterator[PostgresDriver]:
    other = PostgresDriver(postgres_url, pool_least=1)
    await other.open()
    yield other
    await other.close()


class TestPostgresStateStore(StoreSuite):
    @pytest.fixture
    def store(self, driver: PostgresDriver) -> PostgresStateStore:
        return PostgresStateStore(driver)


class TestPostgresVectorCache(CacheSuite):
    @pytest.fixture
    def cache(self, driver: PostgresDriver) -> PostgresVectorCache:
        return PostgresVectorCache(driver)


async def test_another_server_sees_a_commit_at_once(driver: PostgresDriver, other: PostgresDriver) -> None:
    mine, theirs = PostgresStateStore(driver), PostgresStateStore(other)
    for number in range(20):
        await mine.commit(puts={"a": str(number).encode()})
        entry = (await theirs.get(["a"]))["a"]
        assert entry.value == str(number).encode()
        await theirs.commit(expects={"a": entry.revision}, puts={"a": b"theirs"})
        with pytest.raises(Conflict) as caught:
            await mine.commit(expects={"a": entry.revision}, puts={"a": b"lost"})
        assert caught.value.context["key"] == "a"
        assert caught.value.context["expected"] == entry.revision


async def test_of_two_servers_that_claim_many_keys_in_any_order_each_key_has_one_owner(
    driver: PostgresDriver, other: PostgresDriver
) -> None:
    stores = [PostgresStateStore(driver), PostgresStateStore(other)]

    async def claim(number: int) -> bool:
        keys = [f"lease/{(number * step) % 7}" for step in range(1, 4)]
        names = dict.fromkeys(keys if number % 2 else reversed(keys), str(number).encode())
        try:
            await stores[number % 2].commit(dict.fromkeys(names, 0), names)
        except Conflict:
            return False
        return True

    won = await asyncio.gather(*(claim(i) for i in range(1, 30)))
    owners = await stores[0].scan("lease/")
    assert {int(e.value) for e in owners.values()} == {i for i, yes in enumerate(won, 1) if yes}


async def test_state_and_cache_outlive_the_driver(driver: PostgresDriver, other: PostgresDriver) -> None:
    await PostgresStateStore(driver).commit(puts={"a": b"1"})
    await PostgresVectorCache(driver).put_many({b"k": b"vector"}, "m")
    before = await PostgresStateStore(driver).get(["a"])
    await driver.close()
    assert await PostgresStateStore(other).get(["a"]) == before
    assert await PostgresVectorCache(other).get_many([b"k"]) == {b"k": b"vector"}
    assert await PostgresVectorCache(other).size() == (1, 6)


async def test_writers_of_the_same_vectors_keep_the_size_true(
    driver: PostgresDriver, other: PostgresDriver
) -> None:
    caches = [PostgresVectorCache(driver), PostgresVectorCache(other)]
    keys = [bytes([i]) * 32 for i in range(40)]

    async def put(number: int) -> None:
        mine = keys[number:] + keys[:number]
        await caches[number % 2].put_many(dict.fromkeys(mine, b"x" * (1 + number % 3)), "m")

    await asyncio.gather(*(put(i) for i in range(12)), caches[0].prune(30), caches[1].prune(30))
    known = await caches[0].get_many(keys)
    assert await caches[0].size() == (len(known), sum(map(len, known.values())))


async def test_a_store_over_a_driver_that_is_not_open_says_so(postgres_url: str) -> None:
    store = PostgresStateStore(PostgresDriver(postgres_url))
    with pytest.raises(BackendError, match="not open"):
        await store.get(["a"])
    with pytest.raises(BackendError, match="not open"):
        await store.commit(puts={"a": b"1"})
