"""Killed in the middle of attaching or of noticing, nothing has to be repaired by hand."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import asyncpg
import pytest

from tests.attach.conftest import Owner, dump, until
from vectable import AsyncDatabase, AsyncTable, connect_async
from vectable.backends.postgres.layout import cells_name
from vectable.core.vectors import Matrix
from vectable.drivers.postgres import Address, ours
from vectable.drivers.postgres.server import PostgresServer
from vectable.interfaces import Item, Purpose
from vectable.providers.hashing import HashingProvider
from vectable.testing.postgres_server import temporary_server

embed = HashingProvider.embed
ROWS = 1_500
ITEMS = f"""
CREATE TABLE public.items (id int PRIMARY KEY, title text);
INSERT INTO public.items SELECT n, 'Item ' || n FROM generate_series(1, {ROWS}) AS n"""
PROGRAM = """
import asyncio, sys
from vectable import connect_async
from vectable.engine.refresh import Refresher
from vectable.providers.hashing import HashingProvider

embed = HashingProvider.embed

async def slowly(self, items, purpose):
    await asyncio.sleep(0.05)
    return await embed(self, items, purpose)

async def never(self, table, keys, inline):
    print("noticed", flush=True)
    await asyncio.sleep(600)

async def main(url, attaching):
    HashingProvider.embed = slowly
    if attaching == "notice":
        Refresher.settle = never
    async with await connect_async(url, fake_embeddings=True) as database:
        print("open", flush=True)
        if attaching == "attach":
            await database.attach("items", embed="title")
        await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


class Programs:
    """Processes over one database, until they are killed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ends = ExitStack()

    async def start(self, what: str) -> subprocess.Popen[str]:
        """One that attaches the table, or just stays (`serve`) and notices changes, or goes no further than
        to take note of them (`notice`)."""
        command = [sys.executable, "-c", PROGRAM, self._url, what]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._ends.callback(self._end, process)
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "open\n"
        return process

    def _end(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()

    def end(self) -> None:
        self._ends.close()


@pytest.fixture
def programs(postgres_url: str) -> Iterator[Programs]:
    started = Programs(postgres_url)
    yield started
    started.end()


async def all_ready(table: AsyncTable, rows: int = ROWS) -> None:
    async def check() -> bool:
        states = await table.states("title_embedding")
        return states["ready"] == sum(states.values()) == rows == await table.count()

    await until(check)


@pytest.mark.parametrize("seconds", [0.02, 0.15, 0.4])
async def test_attaching_again_finishes_what_was_begun(
    programs: Programs, owner: Owner, postgres_url: str, seconds: float
) -> None:
    await owner.execute(ITEMS)
    async with await connect_async(postgres_url, fake_embeddings=True) as database:
        before = dump(postgres_url)
        attaching = await programs.start("attach")
        await asyncio.sleep(seconds)
        attaching.send_signal(signal.SIGKILL)
        items = await database.attach("items", embed="title")
        await all_ready(items)
        assert (await items.search("Item 77", limit=1))[0]["id"] == 77
        assert len(await database.tables()) == 1
        await database.detach("items")
        assert dump(postgres_url) == before


async def test_detaching_clears_up_what_was_begun(
    programs: Programs, owner: Owner, postgres_url: str
) -> None:
    await owner.execute(ITEMS)
    async with await connect_async(postgres_url, fake_embeddings=True) as database:
        before = dump(postgres_url)
        attaching = await programs.start("attach")

        async def begun() -> bool:
            return len(await database.tables()) == 1

        await until(begun)
        attaching.send_signal(signal.SIGKILL)
        await database.detach("items")
        assert dump(postgres_url) == before


async def test_several_processes_share_the_work_and_one_may_die(
    programs: Programs, database: AsyncDatabase, owner: Owner
) -> None:
    await owner.execute(ITEMS)
    items = await database.attach("items", embed="title")
    others = [await programs.start("serve") for _ in range(2)]
    await owner.execute("UPDATE public.items SET title = title || ' again'")
    await asyncio.sleep(0.3)
    others[0].send_signal(signal.SIGKILL)
    await owner.execute("DELETE FROM public.items WHERE id > 1000")
    await owner.execute("INSERT INTO public.items VALUES (5000, 'Something new')")

    async def found() -> bool:
        hits = await items.search("Item 77 again", limit=1)
        return len(hits) == 1 and hits[0]["id"] == 77 and hits[0].score == pytest.approx(1)

    await until(found)
    await all_ready(items, 1_001)
    for number, title in ((1_000, "Item 1000 again"), (5_000, "Something new")):
        (hit,) = await items.search(title, limit=1)
        assert (hit["id"], hit.score) == (number, pytest.approx(1))


async def test_what_was_noticed_by_a_process_that_is_gone_is_embedded_by_one_that_only_reads(
    programs: Programs, owner: Owner, postgres_url: str
) -> None:
    await owner.execute(ITEMS)
    async with await connect_async(postgres_url, fake_embeddings=True) as database:
        await all_ready(await database.attach("items", embed="title"))
    noticing = await programs.start("notice")
    await owner.execute("UPDATE public.items SET title = 'Something new' WHERE id = 77")
    assert noticing.stdout is not None
    assert await asyncio.to_thread(noticing.stdout.readline) == "noticed\n"
    noticing.kill()
    async with await connect_async(postgres_url, fake_embeddings=True) as database:
        items = await database.table("items")
        await all_ready(items)
        (hit,) = await items.search("Something new", limit=1)
        assert (hit["id"], hit.score) == (77, pytest.approx(1))


@pytest.mark.parametrize("moment", [pytest.param("soon", marks=pytest.mark.slow), "as vectors are written"])
async def test_the_server_may_die_while_a_table_is_attached(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_through = asyncio.Event()
    if moment == "soon":
        let_through.set()

    async def slowly(self: HashingProvider, items: Sequence[Item], purpose: Purpose) -> Matrix:
        await let_through.wait()
        await asyncio.sleep(0.3)
        return await embed(self, items, purpose)

    monkeypatch.setattr(HashingProvider, "embed", slowly)
    with temporary_server() as server:
        async with await connect_async(server.url(), fake_embeddings=True) as database:
            owner = await asyncpg.connect(**Address.parse(server.url()).arguments)
            await owner.execute(ITEMS)
            attaching = asyncio.create_task(database.attach("items", embed="title"))
            await asyncio.sleep(0.3)
            if moment == "as vectors are written":
                await _stall(owner, let_through)
            await asyncio.to_thread(_crash, server)
            owner.terminate()
            async with asyncio.timeout(60):
                await asyncio.gather(attaching, return_exceptions=True)

            async def attached_again() -> bool:
                items = await database.attach("items", embed="title")
                return (await items.states("title_embedding"))["ready"] == ROWS

            await until(attached_again)
            items = await database.table("items")
            await all_ready(items)
            assert (await items.search("Item 77", limit=1))[0]["id"] == 77


async def _stall(owner: Owner, let_through: asyncio.Event) -> None:
    """Lets the model make vectors; waits until they are on their way to a server that cannot take them."""

    async def noticed() -> bool:
        version = await owner.fetchval("SELECT id FROM vectable.versions")
        if version is None:
            return False
        return bool(await owner.fetchval(f"SELECT count(*) = {ROWS} FROM {ours(cells_name(version))}"))

    async def stalled() -> bool:
        return bool(await owner.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))

    await until(noticed)
    version = await owner.fetchval("SELECT id FROM vectable.versions")
    await owner.execute(f"BEGIN; SELECT key FROM {ours(cells_name(version))} FOR UPDATE")
    let_through.set()
    await until(stalled)
    await asyncio.sleep(0.2)


def _crash(server: PostgresServer) -> None:
    server.kill()
    server.start()
