"""The driver against a real server: bounded waits, cut connections, crashes, safe repeats, few rights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from vectable.drivers.postgres import Address, Connection, PostgresDriver, is_prepared, quote
from vectable.errors import BackendError, BackendTimeout, BackendUnavailable, Overloaded, PrivilegeMissing
from vectable.testing.postgres_server import PostgresDatabases, temporary_server

NUMBERS = "CREATE TABLE vectable.numbers (id int PRIMARY KEY, n int NOT NULL)"


@pytest.fixture
async def driver(postgres_url: str) -> AsyncIterator[PostgresDriver]:
    driver = PostgresDriver(postgres_url, pool_least=1, pool_most=4, pool_wait_s=60)
    await driver.open()
    async with driver.connection() as connection:
        await connection.execute(NUMBERS)
        await connection.execute("INSERT INTO vectable.numbers VALUES (1, 0), (2, 0)")
    yield driver
    await driver.close()


async def numbers(driver: PostgresDriver) -> list[int]:
    async def run(connection: Connection) -> list[int]:
        return [row["n"] for row in await connection.fetch("SELECT n FROM vectable.numbers ORDER BY id")]

    return await driver.read(run)


async def kill(driver: PostgresDriver, pid: int) -> None:
    async with driver.connection() as other:
        await other.execute("SELECT pg_terminate_backend($1, 5000)", pid)


# --- the pool


async def test_whoever_finds_the_pool_exhausted_is_told_so_after_the_wait(postgres_url: str) -> None:
    driver = PostgresDriver(postgres_url, pool_least=1, pool_most=2, pool_wait_s=0.2)
    await driver.open()
    async with driver.connection(), driver.connection():
        with pytest.raises(Overloaded) as caught:
            async with asyncio.timeout(100), driver.connection():
                raise AssertionError("there was a third connection")
        assert "all 2 connections" in str(caught.value)
        assert caught.value.retryable
        assert "postgres_pool_max" in str(caught.value.hint)
        status = driver.pool_status()
        assert (status.open, status.busy, status.waiting, status.refused) == (2, 2, 0, 1)
    async with driver.connection() as connection:
        assert await connection.fetchval("SELECT 1") == 1
    assert driver.pool_status().busy == 0
    await driver.close()


async def test_callers_beyond_the_pool_take_turns(driver: PostgresDriver) -> None:
    async def one(number: int) -> int:
        async with driver.connection() as connection:
            return int(await connection.fetchval("SELECT $1::int FROM pg_sleep(0.01)", number))

    assert await asyncio.gather(*map(one, range(40))) == list(range(40))
    status = driver.pool_status()
    assert status.open <= 4
    assert status.waited > 0
    assert (status.waiting, status.refused, status.busy) == (0, 0, 0)


async def test_a_caller_who_goes_away_leaves_no_place_taken(driver: PostgresDriver) -> None:
    async def long(connection: Connection) -> None:
        await connection.execute("SELECT pg_sleep(60)")

    tasks = [asyncio.ensure_future(driver.read(long)) for _ in range(10)]
    await asyncio.sleep(0.2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await asyncio.gather(*(numbers(driver) for _ in range(8))) == [[0, 0]] * 8


# --- transactions


async def test_a_connection_cut_in_a_transaction_is_replaced_and_nothing_happens_twice(
    driver: PostgresDriver,
) -> None:
    attempts = []

    async def add(connection: Connection) -> None:
        attempts.append(connection.get_server_pid())
        await connection.execute("UPDATE vectable.numbers SET n = n + 1")
        if len(attempts) == 1:
            await kill(driver, attempts[0])
        await connection.execute("UPDATE vectable.numbers SET n = n + 10")

    await driver.transaction(add)
    assert len(set(attempts)) == 2
    assert await numbers(driver) == [11, 11]


async def test_what_fails_within_a_transaction_did_not_happen(driver: PostgresDriver) -> None:
    async def fail(connection: Connection) -> None:
        await connection.execute("UPDATE vectable.numbers SET n = 1")
        raise KeyError("of the caller")

    with pytest.raises(KeyError):
        await driver.transaction(fail)
    assert await numbers(driver) == [0, 0]


async def test_serialisation_failures_are_repeated_until_all_steps_are_made(driver: PostgresDriver) -> None:
    attempts = 0
    meet = asyncio.Barrier(2)

    async def step(connection: Connection) -> None:
        nonlocal attempts
        attempts += 1
        n = await connection.fetchval("SELECT n FROM vectable.numbers WHERE id = 1")
        if attempts <= 2:
            await meet.wait()
        await connection.execute("UPDATE vectable.numbers SET n = $1 WHERE id = 1", n + 1)

    await asyncio.gather(*(driver.transaction(step, isolation="repeatable_read") for _ in range(2)))
    assert attempts == 3
    assert await numbers(driver) == [2, 0]


async def test_deadlocks_are_repeated(driver: PostgresDriver) -> None:
    attempts = 0
    meet = asyncio.Barrier(2)

    async def cross(order: tuple[int, int]) -> None:
        async def run(connection: Connection) -> None:
            nonlocal attempts
            attempts += 1
            first = attempts <= 2
            await connection.execute("SET LOCAL deadlock_timeout = '50ms'")
            await connection.execute("UPDATE vectable.numbers SET n = n + 1 WHERE id = $1", order[0])
            if first:
                await meet.wait()
            await connection.execute("UPDATE vectable.numbers SET n = n + 1 WHERE id = $1", order[1])

        await driver.transaction(run)

    await asyncio.gather(cross((1, 2)), cross((2, 1)))
    assert attempts == 3
    assert await numbers(driver) == [2, 2]


async def test_a_statement_that_takes_too_long_is_stopped(driver: PostgresDriver) -> None:
    async def long(connection: Connection) -> None:
        await connection.execute("SELECT pg_sleep(60)")

    with pytest.raises(BackendTimeout):
        await driver.transaction(long, statement_timeout_ms=50)
    assert await numbers(driver) == [0, 0]


# --- a server that is killed


async def test_a_connection_that_never_was_is_not_said_to_be_lost() -> None:
    driver = PostgresDriver("postgresql://nobody@127.0.0.1:1/nothing", pool_least=1, pool_wait_s=1)
    with pytest.raises(BackendUnavailable, match="cannot be reached"):
        await driver.open()


async def test_a_server_that_is_killed_is_reported_and_found_again() -> None:
    with temporary_server() as server:
        driver = PostgresDriver(server.url(), pool_least=3, pool_wait_s=60)
        await driver.open()
        async with driver.connection() as connection:
            await connection.execute(NUMBERS)
            await connection.execute("INSERT INTO vectable.numbers VALUES (1, 7)")
        identity, incarnation = driver.identity, driver.incarnation
        await asyncio.to_thread(server.kill)
        with pytest.raises(BackendUnavailable):
            await numbers(driver)
        await asyncio.to_thread(server.start)
        assert await numbers(driver) == [7]
        again = PostgresDriver(server.url(), pool_least=1)
        await again.open()
        assert again.identity == identity
        assert again.incarnation == driver.incarnation
        assert again.incarnation.place == incarnation.place
        assert not again.incarnation.holds(str(incarnation))
        await again.close()
        await driver.close()


# --- rights


@pytest.fixture
def role(postgres_databases: PostgresDatabases) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    name = "vectable_test_plain"
    postgres_databases.run(f"DROP ROLE IF EXISTS {name}")
    postgres_databases.run(f"CREATE ROLE {name} LOGIN")
    yield name
    postgres_databases.run(f"DROP ROLE {name}")


async def run_as_owner(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(**Address.parse(url).arguments)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


@pytest.fixture
def bare_database(postgres_databases: PostgresDatabases, role: str) -> Iterator[str]:
    """The name of a database without pgvector."""
    name = postgres_databases.create(extension=False)
    yield name
    postgres_databases.drop(name)


async def test_a_missing_extension_is_told_with_the_command(
    postgres_databases: PostgresDatabases, bare_database: str, role: str
) -> None:
    mine = postgres_databases.url_of(bare_database, role)
    driver = PostgresDriver(mine, pool_least=1)
    with pytest.raises(BackendError) as caught:
        await driver.open()
    assert "CREATE EXTENSION vector;" in str(caught.value.hint)
    assert not await is_prepared(mine)
    # What the hint says is enough, with the grants that the next errors name.
    owner = postgres_databases.url_of(bare_database)
    await run_as_owner(owner, "CREATE EXTENSION vector;")
    with pytest.raises(BackendError) as caught:
        await driver.open()
    assert f"GRANT CREATE ON DATABASE {bare_database} TO" in str(caught.value.hint)
    await run_as_owner(owner, f"GRANT CREATE ON DATABASE {quote(bare_database)} TO {role}")
    await driver.open()
    assert await is_prepared(mine)
    await driver.close()


async def test_a_role_that_owns_its_schema_and_nothing_else_is_enough(
    postgres_databases: PostgresDatabases, postgres_url: str, role: str
) -> None:
    database = Address.parse(postgres_url).database
    await run_as_owner(
        postgres_url,
        f"REVOKE ALL ON DATABASE {quote(database)} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {quote(database)} TO {role}",
        f"CREATE SCHEMA vectable AUTHORIZATION {role}",
        "REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() FROM PUBLIC",
    )
    mine = PostgresDriver(postgres_databases.url_of(database, role), pool_least=1)
    await run_as_owner(postgres_url, "REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(PrivilegeMissing) as denied:
        await mine.open()
    assert 'GRANT USAGE ON SCHEMA "public" TO' in str(denied.value.hint)
    await run_as_owner(postgres_url, f"GRANT USAGE ON SCHEMA public TO {role}")
    await mine.open()
    owners = PostgresDriver(postgres_url, pool_least=1)
    await owners.open()
    assert (mine.identity, mine.incarnation) == (owners.identity, owners.incarnation)
    assert await mine.stored_bytes() > 0
    await mine.close()
    await owners.close()
    await run_as_owner(postgres_url, f"DROP OWNED BY {role} CASCADE")
