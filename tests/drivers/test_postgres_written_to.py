"""A connection that is lost, or whose caller gives up, while the server is slow to read what is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import asyncpg
import pytest

from vectable.drivers.postgres import Address, Connection, PostgresDriver
from vectable.errors import BackendUnavailable

Write: TypeAlias = Callable[[Connection], Awaitable[None]]
ROWS = [(number, b"\x00" * 5_000) for number in range(300)]


async def update(connection: Connection) -> None:
    await connection.executemany("UPDATE vectable.numbers SET n = $2 WHERE id = $1", ROWS)


async def copy(connection: Connection) -> None:
    more = [(number + 1_000, data) for number, data in ROWS]
    await connection.copy_records_to_table("numbers", schema_name="vectable", records=more)


@pytest.fixture
async def driver(postgres_url: str) -> AsyncIterator[PostgresDriver]:
    driver = PostgresDriver(postgres_url, pool_least=1, pool_most=4, statement_timeout_ms=60_000)
    await driver.open()
    async with driver.connection() as connection:
        await connection.execute("CREATE TABLE vectable.numbers (id int PRIMARY KEY, n bytea)")
        await connection.executemany("INSERT INTO vectable.numbers VALUES ($1, $2)", ROWS)
    yield driver
    await driver.close()


@pytest.fixture
async def lock(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody for whom every writer has to wait: none of them reads what it is sent meanwhile."""
    connection = await asyncpg.connect(**Address.parse(postgres_url).arguments)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await connection.close()


async def writing(driver: PostgresDriver, lock: asyncpg.Connection, write: Write) -> asyncio.Task[None]:
    """A write that is under way and waits for room."""
    await lock.execute("LOCK TABLE vectable.numbers")
    work = asyncio.create_task(driver.transaction(write))
    while not await lock.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    return work


@pytest.mark.parametrize("write", [update, copy])
async def test_the_server_may_vanish_while_it_is_written_to(
    driver: PostgresDriver, lock: asyncpg.Connection, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vectable.drivers.postgres.driver._ATTEMPTS", 1)
    work = await writing(driver, lock, write)
    await lock.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
    )
    with pytest.raises(BackendUnavailable):
        async with asyncio.timeout(100):
            await work
    assert driver.pool_status().busy == 0


@pytest.mark.parametrize("write", [update, copy])
async def test_whoever_gives_up_a_write_need_not_wait_for_the_server(
    driver: PostgresDriver, lock: asyncpg.Connection, write: Write
) -> None:
    work = await writing(driver, lock, write)
    work.cancel()
    done, _ = await asyncio.wait([work], timeout=100)
    assert done and work.cancelled()
    await lock.execute("ROLLBACK")
    async with driver.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM vectable.numbers WHERE n <> ''") == len(ROWS)


async def test_a_server_that_does_not_answer_is_an_error(
    driver: PostgresDriver, lock: asyncpg.Connection
) -> None:
    async def wait(connection: Connection) -> None:
        connection._config = connection._config._replace(command_timeout=0.2)  # as `allow` sets it
        await connection.execute("SELECT count(*) FROM vectable.numbers")

    await lock.execute("LOCK TABLE vectable.numbers")
    with pytest.raises(BackendUnavailable, match="did not answer in time"):
        await driver.transaction(wait)


async def test_any_number_of_rows_of_any_size_is_written_in_order(driver: PostgresDriver) -> None:
    sizes = [0, 300_000, 5, 98_000, 98_000, 1, 70_000]
    rows = [(number, b"\x01" * size) for number, size in enumerate(sizes)]

    async def run(connection: Connection) -> list[int]:
        await connection.executemany("UPDATE vectable.numbers SET n = $2 WHERE id = $1", rows)
        found = await connection.fetch("SELECT length(n) FROM vectable.numbers ORDER BY id LIMIT 7")
        return [row[0] for row in found]

    assert await driver.transaction(run) == sizes
