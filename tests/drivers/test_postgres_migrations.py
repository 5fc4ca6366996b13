"""Numbered migrations: whoever comes first makes them, once, whole or not at all, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from vectable.drivers.postgres import Connection, PostgresDriver, migrations
from vectable.drivers.postgres.address import Address
from vectable.drivers.postgres.connection import connect
from vectable.errors import BackendError, DatabaseNewer
from vectable.state.postgres import PostgresStateStore, PostgresVectorCache

NEWEST = list(range(1, migrations.VERSION + 1))
VERSIONS = "SELECT array_agg(version ORDER BY version) FROM vectable.migrations"


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator[Connection]:
    connection = await connect(Address.parse(postgres_url), vector_schema="public")
    yield connection
    await connection.close()


@pytest.mark.parametrize("version", range(migrations.VERSION))
async def test_an_older_database_is_brought_up_to_date_once_with_all_it_holds(
    postgres_url: str, connection: Connection, version: int
) -> None:
    await migrations.migrate(connection, "here", version)
    identity = None
    if version > 0:
        identity = await connection.fetchval("SELECT value FROM vectable.meta WHERE name = 'identity'")
        await connection.execute(
            "SELECT vectable.state_commit('{}', '{}', '{a}', ARRAY[bytea 'kept'], '{}');"
            "SELECT vectable.cache_put(ARRAY[bytea 'key'], ARRAY[bytea 'vector'], 'model');"
            "CREATE TABLE vectable.q_1 (k0 int); INSERT INTO vectable.q_1 VALUES (1)"
        )
    drivers = [PostgresDriver(postgres_url, pool_least=1) for _ in range(3)]
    try:
        await asyncio.gather(*(driver.open() for driver in drivers))
        assert await connection.fetchval(VERSIONS) == NEWEST
        assert await migrations.migrate(connection, "here") == 0
        if version > 0:
            assert {driver.identity for driver in drivers} == {identity}
            assert (await PostgresStateStore(drivers[0]).get(["a"]))["a"].value == b"kept"
            assert await PostgresVectorCache(drivers[1]).get_many([b"key"]) == {b"key": b"vector"}
            await connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
            assert await connection.fetchval("DELETE FROM vectable.q_1 RETURNING k0") == 1
            assert await PostgresVectorCache(drivers[2]).clear() == 1
    finally:
        for driver in drivers:
            await driver.close()


async def test_a_migration_that_fails_has_not_begun(postgres_url: str, connection: Connection) -> None:
    await migrations.migrate(connection, "here", 1)
    await connection.execute("CREATE VIEW vectable.runs AS SELECT 1")  # in the way
    with pytest.raises(BackendError):
        await PostgresDriver(postgres_url).open()
    assert await connection.fetchval(VERSIONS) == [1]
    await connection.execute("DROP VIEW vectable.runs")
    assert await migrations.migrate(connection, "here") == migrations.VERSION - 1


async def test_what_a_newer_one_has_migrated_is_left_alone(postgres_url: str, connection: Connection) -> None:
    await migrations.migrate(connection, "here")
    await connection.execute("INSERT INTO vectable.migrations VALUES (99)")
    with pytest.raises(DatabaseNewer) as refused:
        await PostgresDriver(postgres_url).open()
    assert refused.value.context == {"format": 99, "supported": migrations.VERSION}
