"""Roles with few rights: what nobody tells is looked for, and triggers come when they are allowed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from tests.attach.conftest import Owner, until
from vectable import AsyncTable, connect_async
from vectable.drivers.postgres import Address
from vectable.errors import AccessDenied, PrivilegeMissing
from vectable.testing.postgres_server import PostgresDatabases


@dataclass
class People:
    """Who owns the table, who writes to it, and where Vectable's own role comes in."""

    owner: Owner
    writer: Owner
    app: str


@pytest.fixture
async def people(
    postgres_databases: PostgresDatabases, postgres_url: str, owner: Owner
) -> AsyncIterator[People]:
    name = Address.parse(postgres_url).database
    roles = {part: f"{part}_{name[-8:]}" for part in ("seller", "writer", "app")}
    for role in roles.values():
        await owner.execute(f"CREATE ROLE {role} LOGIN")
    await owner.execute(
        f"CREATE SCHEMA vectable AUTHORIZATION {roles['app']};"
        f"CREATE SCHEMA shop AUTHORIZATION {roles['seller']}"
    )
    urls = {part: postgres_databases.url_of(name, role) for part, role in roles.items()}
    connected = [await asyncpg.connect(**Address.parse(urls[p]).arguments) for p in ("seller", "writer")]
    await connected[0].execute(
        "CREATE TABLE shop.items (id int PRIMARY KEY, title text, updated_at timestamptz DEFAULT now());"
        "INSERT INTO shop.items SELECT n, 'Item ' || n FROM generate_series(1, 20) AS n;"
        f"GRANT USAGE ON SCHEMA shop TO {roles['writer']}, {roles['app']};"
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON shop.items TO {roles['writer']}"
    )
    yield People(connected[0], connected[1], urls["app"])
    for connection in connected:
        await connection.close()
    for role in roles.values():
        await owner.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


async def finds(table: AsyncTable, title: str) -> None:
    async def check() -> bool:
        hits = await table.search(title, limit=1)
        return len(hits) == 1 and hits[0]["title"] == title and hits[0].score == pytest.approx(1)

    await until(check)


async def has(table: AsyncTable, cells: int) -> None:
    async def check() -> bool:
        return sum((await table.states("title_embedding")).values()) == cells

    await until(check)


@pytest.mark.parametrize("moment", ["updated_at", None])
async def test_a_role_that_may_only_read_looks_for_changes(people: People, moment: str | None) -> None:
    role = Address.parse(people.app).keywords["user"]
    if moment is None:
        await people.owner.execute("ALTER TABLE shop.items DROP COLUMN updated_at")
    async with await connect_async(people.app, fake_embeddings=True) as database:
        with pytest.raises(AccessDenied) as denied:
            await database.attach("shop.items", embed="title")
        grant = str(denied.value.hint).partition(": ")[2].replace(", TRIGGER", "")
        await people.owner.execute(grant)
        items = await database.attach("shop.items", embed="title")
        assert (await items.describe())["attached"]["told"] is False
        await finds(items, "Item 5")
        stamp = "" if moment is None else ", updated_at = now()"
        await people.writer.execute(f"UPDATE shop.items SET title = 'Another'{stamp} WHERE id = 5")
        # Nobody told of it, and the old vector is still held in memory: it is no hit all the same.
        hits = await items.search("Item 5", limit=20)
        assert all(hit["title"] != "Another" or hit.score < 0.99 for hit in hits)
        await finds(items, "Another")
        await people.writer.execute("INSERT INTO shop.items VALUES (21, 'A new one')")
        await finds(items, "A new one")
        await people.writer.execute("DELETE FROM shop.items WHERE id <= 10")
        await has(items, 11)
        if moment is None:
            return
        # A change that leaves the time of change as it was is found by comparison.
        await people.writer.execute("UPDATE shop.items SET title = 'Silently' WHERE id = 12")
        await finds(items, "Silently")
        await people.owner.execute(f"GRANT TRIGGER ON shop.items TO {role}")
        assert await database.engine.attacher.watch(items.definition)
        assert (await items.describe())["attached"]["told"] is True
        await people.writer.execute("UPDATE shop.items SET title = 'Told' WHERE id = 13")
        await finds(items, "Told")
        await database.detach("items")
    assert await people.owner.fetchval("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'vectable%'") == 0


async def test_the_owner_of_a_partitioned_table_goes_on_adding_partitions(people: People) -> None:
    """Who adds one puts our triggers on it; and where one is not ours to watch, all are looked at."""
    role = Address.parse(people.app).keywords["user"]
    await people.owner.execute(
        "CREATE TABLE shop.parts (id int PRIMARY KEY, title text) PARTITION BY RANGE (id);"
        "CREATE TABLE shop.low PARTITION OF shop.parts FOR VALUES FROM (0) TO (10);"
        "INSERT INTO shop.parts SELECT n, 'Part ' || n FROM generate_series(1, 9) AS n;"
        f"GRANT SELECT, TRIGGER ON shop.parts TO {role}"
    )
    async with await connect_async(people.app, fake_embeddings=True) as database:
        parts = await database.attach("shop.parts", embed="title")
        assert (await parts.describe())["attached"]["told"] is False
        await people.owner.execute(f"GRANT TRIGGER ON shop.low TO {role}")
        assert await database.engine.attacher.watch(parts.definition)
        assert (await parts.describe())["attached"]["told"] is True
        await people.owner.execute(
            "CREATE TABLE shop.middle PARTITION OF shop.parts FOR VALUES FROM (10) TO (20);"
            "CREATE TABLE shop.high (id int PRIMARY KEY, title text);"
            "ALTER TABLE shop.parts ATTACH PARTITION shop.high FOR VALUES FROM (20) TO (30);"
            "INSERT INTO shop.parts VALUES (11, 'In the middle'), (21, 'High up')"
        )
        await finds(parts, "In the middle")
        await finds(parts, "High up")
        await database.detach("parts")
    assert await people.owner.fetchval("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'vectable%'") == 0


async def test_a_table_that_the_role_may_not_make_is_given_up(people: People, owner: Owner) -> None:
    role = Address.parse(people.app).keywords["user"]
    async with await connect_async(people.app, fake_embeddings=True) as database:
        for _ in range(2):
            with pytest.raises(PrivilegeMissing) as denied:
                await database.create_table("mine", {"title": "string"})
            assert "GRANT USAGE, CREATE ON SCHEMA public TO" in str(denied.value.hint)
        assert await database.tables() == []
        await owner.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
        mine = await database.create_table("mine", {"title": "string"})
        await owner.execute(
            f"ALTER TABLE public.mine OWNER TO CURRENT_USER; GRANT ALL ON public.mine TO {role}"
        )
        with pytest.raises(PrivilegeMissing):
            await mine.add_column("pages", "int")
        assert (await mine.insert([{"title": "A heist in orbit"}])).inserted == 1
        await owner.execute(f"ALTER TABLE public.mine OWNER TO {role}")
        await mine.add_column("pages", "int")


async def test_polling_may_be_asked_for(people: People, owner: Owner, postgres_url: str) -> None:
    async with await connect_async(postgres_url, fake_embeddings=True) as database:
        items = await database.attach("shop.items", embed="title", poll=True, updated_at="updated_at")
        assert (await items.describe())["attached"]["told"] is False
        await people.writer.execute(
            "UPDATE shop.items SET title = 'Another', updated_at = now() WHERE id = 5"
        )
        await finds(items, "Another")
        found = await owner.fetchval("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'vectable%'")
        assert found == 0


async def test_rows_whose_triggers_were_off_are_not_served_by_old_vectors(
    people: People, owner: Owner, postgres_url: str
) -> None:
    async with await connect_async(postgres_url, fake_embeddings=True) as database:
        items = await database.attach("shop.items", embed="title")
        await finds(items, "Item 5")
        # As a replica that applies changes does: no trigger fires.
        await owner.execute(
            "SET session_replication_role = replica; UPDATE shop.items SET title = 'Replicated' WHERE id = 5;"
            "RESET session_replication_role"
        )
        hits = await items.search("Item 5", limit=20)
        assert all(hit["title"] != "Replicated" or hit.score < 0.99 for hit in hits)
