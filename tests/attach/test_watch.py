"""Changes anybody makes with plain SQL are queued; nothing of the table's owner is in the way, or left."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.attach.conftest import Owner, dump
from vectable.backends.postgres import PostgresBackend, PostgresForeignTables
from vectable.core.schema import Table
from vectable.drivers.postgres import PostgresDriver
from vectable.interfaces import SchemaChange


class Watching:
    """A table of others, stored and watched, with nobody who notices anything."""

    def __init__(self, driver: PostgresDriver) -> None:
        self._backend = PostgresBackend(driver)
        self.foreign = PostgresForeignTables(driver)
        self.tables: dict[str, Table] = {}

    async def begin(self, name: str) -> str:
        """Watches `name`; the queue."""
        table = self.tables.setdefault(name, await self.foreign.look(name))
        await self._backend.alter(table, SchemaChange("create_table"))
        assert await self.foreign.watch(table)
        return f"vectable.q_{table.id}"

    async def hears(self, name: str) -> bool:
        """Whether triggers are put on `name`."""
        table = self.tables.setdefault(name, await self.foreign.look(name))
        await self._backend.alter(table, SchemaChange("create_table"))
        return await self.foreign.watch(table)

    async def end(self, name: str) -> None:
        await self._backend.alter(self.tables[name], SchemaChange("drop_table"))


@pytest.fixture
async def watching(postgres_url: str) -> AsyncIterator[Watching]:
    driver = PostgresDriver(postgres_url, pool_least=1)
    await driver.open()
    yield Watching(driver)
    await driver.close()


@pytest.mark.parametrize("partition", ["", "PARTITION BY RANGE (id)"])
async def test_every_change_is_queued(watching: Watching, owner: Owner, partition: str) -> None:
    await owner.execute(f"CREATE TABLE public.items (id int PRIMARY KEY, title text) {partition}")
    if partition:
        await owner.execute("CREATE TABLE public.part PARTITION OF public.items DEFAULT")
    queue = await watching.begin("items")
    assert await watching.begin("items") == queue
    await owner.execute("INSERT INTO public.items SELECT n, 'x' FROM generate_series(1, 3) AS n")
    await owner.execute("UPDATE public.items SET id = 9 WHERE id = 3")
    await owner.execute("DELETE FROM public.items WHERE id = 1")
    rows = await owner.fetch(f"SELECT k0 FROM {queue} WHERE NOT whole")
    assert sorted(r[0] for r in rows) == [1, 1, 2, 3, 3, 9]
    await owner.execute(f"DELETE FROM {queue}; TRUNCATE public.items")
    assert await owner.fetchval(f"SELECT count(*) FROM {queue} WHERE whole") == 1


@pytest.mark.parametrize(
    "whole", ["PARTITION OF whole FOR VALUES FROM (1) TO (10)", "(PRIMARY KEY (id)) INHERITS (whole)"]
)
async def test_a_part_hears_of_what_is_written_to_the_whole(
    watching: Watching, owner: Owner, whole: str
) -> None:
    by = "PARTITION BY RANGE (id)" if whole.startswith("PARTITION") else ""
    await owner.execute(
        f"CREATE TABLE whole (id int PRIMARY KEY, title text) {by}; CREATE TABLE part {whole}"
    )
    queue = await watching.begin("part")
    await owner.execute(f"INSERT INTO {'whole' if by else 'part'} VALUES (1, 'x'), (2, 'x')")
    await owner.execute("UPDATE whole SET title = 'y' WHERE id = 1; DELETE FROM whole WHERE id = 2")
    rows = await owner.fetch(f"SELECT k0 FROM {queue} WHERE NOT whole")
    assert sorted(r[0] for r in rows) == [1, 1, 2, 2]
    assert by or not await watching.hears("whole")


async def test_a_renamed_key_stops_no_writer_and_is_followed(watching: Watching, owner: Owner) -> None:
    await owner.execute("CREATE TABLE public.items (id int PRIMARY KEY)")
    queue = await watching.begin("items")
    await owner.execute(f"DELETE FROM {queue}; ALTER TABLE public.items RENAME id TO number")
    await owner.execute("INSERT INTO public.items VALUES (1)")
    assert await owner.fetchval(f"SELECT bool_and(whole) FROM {queue}") is True
    assert await watching.foreign.watch(watching.tables["items"])
    await owner.execute(f"DELETE FROM {queue}; INSERT INTO public.items VALUES (2)")
    assert await owner.fetchval(f"SELECT k0 FROM {queue}") == 2


async def test_nothing_is_left_and_owners_may_drop_their_types(
    watching: Watching, owner: Owner, postgres_url: str
) -> None:
    await owner.execute(
        "CREATE TYPE public.mood AS ENUM ('a');"
        'CREATE TABLE public."od"";d" (m public.mood, c char(3), PRIMARY KEY (m, c))'
    )
    before = dump(postgres_url)
    queue = await watching.begin('od";d')
    assert dump(postgres_url) != before
    await owner.execute("INSERT INTO public.\"od\"\";d\" VALUES ('a', 'x')")
    assert tuple(await owner.fetchrow(f"SELECT k0, k1 FROM {queue} WHERE NOT whole")) == ("a", "x")
    await watching.end('od";d')
    assert dump(postgres_url) == before
    await watching.begin('od";d')
    await owner.execute('DROP TABLE public."od"";d"; DROP TYPE public.mood')
    await watching.end('od";d')
