"""The state store and the cache in SQLite: the suites, and what only several connections show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vectable.drivers.sqlite import SqliteDriver
from vectable.errors import BackendError, Conflict
from vectable.state.sqlite import SqliteStateStore, SqliteVectorCache
from vectable.testing.store_suite import CacheSuite, StoreSuite


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[SqliteDriver]:
    driver = SqliteDriver(tmp_path / "db", synchronous="normal")
    driver.open()
    yield driver
    await driver.close()


class TestSqliteStateStore(StoreSuite):
    @pytest.fixture
    def store(self, driver: SqliteDriver) -> SqliteStateStore:
        return SqliteStateStore(driver)


class TestSqliteVectorCache(CacheSuite):
    @pytest.fixture
    def cache(self, driver: SqliteDriver) -> SqliteVectorCache:
        return SqliteVectorCache(driver)


async def test_another_connection_sees_a_commit_at_once(driver: SqliteDriver) -> None:
    other = SqliteDriver(driver.directory)
    other.open()
    mine, theirs = SqliteStateStore(driver), SqliteStateStore(other)
    for number in range(20):
        await mine.commit(puts={"a": str(number).encode()})
        entry = (await theirs.get(["a"]))["a"]
        assert entry.value == str(number).encode()
        await theirs.commit(expects={"a": entry.revision}, puts={"a": b"theirs"})
        with pytest.raises(Conflict):
            await mine.commit(expects={"a": entry.revision}, puts={"a": b"lost"})
    await other.close()


async def test_state_and_cache_outlive_the_driver(driver: SqliteDriver) -> None:
    await SqliteStateStore(driver).commit(puts={"a": b"1"})
    await SqliteVectorCache(driver).put_many({b"k": b"vector"}, "m")
    before = await SqliteStateStore(driver).get(["a"])
    await driver.close()
    again = SqliteDriver(driver.directory)
    again.open()
    assert await SqliteStateStore(again).get(["a"]) == before
    assert await SqliteVectorCache(again).get_many([b"k"]) == {b"k": b"vector"}
    assert await SqliteVectorCache(again).size() == (1, 6)
    await again.close()


async def test_counters_of_two_connections_lose_no_step(driver: SqliteDriver) -> None:
    other = SqliteDriver(driver.directory)
    other.open()
    stores = [SqliteStateStore(driver), SqliteStateStore(other)]
    await stores[0].commit(puts={"n": b"0"})

    async def step(store: SqliteStateStore) -> None:
        while True:
            entry = (await store.get(["n"]))["n"]
            try:
                await store.commit({"n": entry.revision}, {"n": str(int(entry.value) + 1).encode()})
            except Conflict:
                continue
            return

    await asyncio.gather(*(step(stores[i % 2]) for i in range(20)))
    assert (await stores[1].get(["n"]))["n"].value == b"20"
    await other.close()


async def test_a_store_over_a_driver_that_is_not_open_says_so(tmp_path: Path) -> None:
    store = SqliteStateStore(SqliteDriver(tmp_path / "db"))
    with pytest.raises(BackendError, match="not open"):
        await store.get(["a"])
    with pytest.raises(BackendError, match="not open"):
        await store.commit(puts={"a": b"1"})
