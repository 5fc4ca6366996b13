"""A crash of the server takes back numbers of transactions that had been seen, and gives them again: nothing
that is told apart by them may be taken for what it was. A stop and a start take nothing back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from vectable import connect_async
from vectable.backends.postgres import PostgresBackend
from vectable.core.schema import Column, ColumnType, Table
from vectable.drivers.postgres import Address, Connection, PostgresDriver
from vectable.drivers.postgres.server import PostgresServer
from vectable.errors import MarkExpired, OutcomeUnknown
from vectable.testing.backend_suite import Subject
from vectable.testing.postgres_server import temporary_server
from vectable.testing.samples import text_key

BURNT = 100
BURN = "BEGIN; SELECT pg_current_xact_id(); ROLLBACK"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One that puts off to write its log for as long as it can."""
    with temporary_server(wal_writer_delay="10s", autovacuum="off") as server:
        yield server


@pytest.fixture
async def url(server: PostgresServer, request: pytest.FixtureRequest) -> str:
    name = f"crash_{abs(hash(request.node.name))}"
    other = await plain(server.url())
    await other.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
    await other.close()
    return server.url(name)


async def plain(url: str) -> asyncpg.Connection:
    """A connection of somebody else's."""
    return await asyncpg.connect(**Address.parse(url).arguments)


async def crash(server: PostgresServer, url: str, what: str) -> None:
    """Of the whole server, or of a process of it, after which it starts itself anew."""
    if what == "server":
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        return
    other = await plain(url)
    started = await other.fetchval("SELECT pg_postmaster_start_time()")
    os.kill(other.get_server_pid(), signal.SIGKILL)
    while not other.is_closed():
        await asyncio.sleep(0.01)
    async with asyncio.timeout(30):
        while True:
            try:
                other = await plain(url)
                break
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.02)
    assert await other.fetchval("SELECT pg_postmaster_start_time()") == started
    await other.close()


async def next_number(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text"))


@pytest.mark.parametrize("what", ["server", "process"])
async def test_resident_rows_from_before_a_crash_hide_no_later_write(
    server: PostgresServer, url: str, what: str, tmp_path: Path
) -> None:
    settings = {"text_model": "hashing/16", "postgres_pool_min": 1, "cache_dir": str(tmp_path)}
    async with await connect_async(url, fake_embeddings=True, **settings) as db:
        table = await db.create_table("t", {"title": "string"})
        await table.add_embedding_column("emb", source="title")
        await table.insert([{"id": f"a{i}", "title": f"hello {i}"} for i in range(20)])
        other = await plain(url)
        for _ in range(BURNT):
            await other.execute(BURN)
        seen = await next_number(other)
        assert [hit["id"] for hit in await table.similar("hello 3", on="emb").limit(1).collect()] == ["a3"]
        await crash(server, url, what)
        other = await plain(url)
        assert await next_number(other) < seen  # or this test proves nothing
        async with await connect_async(url, fake_embeddings=True, **settings) as second:
            await (await second.table("t")).insert([{"id": "new", "title": "entirely new"}])
        assert await next_number(other) < seen
        found = await table.similar("entirely new", on="emb").limit(1).collect()
        assert [hit["id"] for hit in found] == ["new"]
        await other.close()


@pytest.fixture
async def driver(url: str) -> AsyncIterator[PostgresDriver]:
    driver = PostgresDriver(url, pool_least=1)
    await driver.open()
    yield driver
    await driver.close()


async def test_marks_outlive_a_stop_and_expire_with_a_crash(
    server: PostgresServer, url: str, driver: PostgresDriver
) -> None:
    backend = PostgresBackend(driver)
    key = Column(name="id", type=ColumnType.STRING, nullable=False)
    subject = await Subject.create(backend, Table(name="t", key=(key.id,), columns=(key,)))
    await subject.put({"id": "a"})
    mark, before = await subject.position(), driver.incarnation
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    await subject.put({"id": "b"})
    assert await subject.changes(mark) == {text_key("b")}
    assert driver.incarnation.place == before.place
    assert driver.incarnation.run != before.run
    assert driver.incarnation.holds(str(before))
    await crash(server, url, "server")
    subject.mark = None
    with pytest.raises(MarkExpired):
        await subject.changes(mark)
    async with backend.view(subject.table) as view:
        assert (await view.get([text_key("b")], ["id"])).keys == (text_key("b"),)
    assert driver.incarnation.place == before.place
    assert not driver.incarnation.holds(str(before))


async def test_a_number_given_again_does_not_vouch_for_the_write_that_had_it(
    server: PostgresServer, url: str, driver: PostgresDriver
) -> None:
    """Lost in its COMMIT, with all that had not reached the log; another one commits under its number."""

    async def others(number: int) -> None:
        await crash(server, url, "server")
        other = await plain(url)
        while await next_number(other) < number:
            await other.execute(BURN)
        given = await other.fetchval(
            "INSERT INTO vectable.meta VALUES ('other', '') RETURNING pg_current_xact_id()::text"
        )
        assert int(given) == number
        await other.close()

    async def write(connection: Connection) -> int:
        return int(
            await connection.fetchval(
                "INSERT INTO vectable.meta VALUES ('ours', '') RETURNING pg_current_xact_id()::text"
            )
        )

    def xid_of(number: int) -> int:
        """Asked between the write and its COMMIT."""
        with ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(asyncio.run, others(number)).result()
        return number

    with pytest.raises(OutcomeUnknown):
        await driver.transaction(write, xid_of=xid_of)
    names = await driver.read(lambda connection: connection.fetch("SELECT name FROM vectable.meta"))
    assert {name for (name,) in names} & {"ours", "other"} == {"other"}
