"""A whole database on PostgreSQL while its server dies, connections are cut, locks cross, the pool runs dry:
what was acknowledged is there, nothing is there by half, and every failure is one of ours, in time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from tests.waiting import LIMIT_S
from vectable import AsyncDatabase, connect_async
from vectable.drivers.postgres import Address
from vectable.errors import BackendError, OutcomeUnknown, Overloaded, VectableError
from vectable.testing.postgres_server import temporary_server
from vectable.testing.samples import clustered_vectors

SETTINGS: dict[str, Any] = {"fake_embeddings": True, "text_model": "hashing/16", "postgres_pool_min": 1}
BATCH = 7


async def made(db: AsyncDatabase) -> None:
    table = await db.create_table("t", {"title": "string", "batch": "string", "n": "int"})
    await table.add_embedding_column("emb", source="title")


def rows_of(batch: str, size: int = BATCH) -> list[dict[str, Any]]:
    return [{"id": f"{batch}/{i}", "title": f"{batch} {i}", "batch": batch, "n": 0} for i in range(size)]


async def plain(url: str) -> asyncpg.Connection:
    """A connection of somebody else's."""
    arguments = {**Address.parse(url).arguments, "server_settings": {"application_name": "others"}}
    return await asyncpg.connect(**arguments)


@pytest.fixture
async def others(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await plain(postgres_url)
    yield connection
    await connection.close()


async def patiently(step: Any) -> Any:
    """What `step` gives once the server is back."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                return await step()
            except VectableError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(0.05)


async def check(db: AsyncDatabase, sizes: dict[str, int], acknowledged: set[str]) -> None:
    """Whole batches, all acknowledged ones among them; and everything is embedded in the end."""
    table = await db.table("t")
    found: dict[str, int] = {}
    async for row in table.select("batch").stream():
        found[row["batch"]] = found.get(row["batch"], 0) + 1
    assert found == {name: sizes[name] for name in found}
    assert found.keys() >= acknowledged
    [job] = [await table.refresh("emb")]
    if job.job is not None:
        await db.wait(job.job)
    states = await table.states("emb")
    assert states["ready"] == sum(states.values()) == sum(found.values())


@pytest.mark.slow
async def test_a_server_killed_in_the_middle_of_inserts_loses_nothing_acknowledged() -> None:
    """Small batches, embedded at once, and large ones, which are copied in and embedded by a job."""
    chance = random.Random(1)
    sizes: dict[str, int] = {}
    acknowledged: set[str] = set()
    with temporary_server() as server:
        async with await connect_async(server.url(), **SETTINGS) as db:
            await made(db)
            table = await db.table("t")

            async def write(name: str, size: int) -> None:
                """Until the server is gone."""
                turn = 0
                while True:
                    turn += 1
                    batch = f"{name}.{turn}"
                    sizes[batch] = size
                    try:
                        await table.insert(rows_of(batch, size), wait=False)
                    except BackendError:
                        return
                    acknowledged.add(batch)

            for life in range(2):
                writers = [
                    asyncio.create_task(write(f"{life}-{n}", size)) for n, size in enumerate([7, 7, 2_000])
                ]
                before = len(acknowledged)
                while len(acknowledged) < before + 5:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(chance.uniform(0, 0.3))
                await asyncio.to_thread(server.kill)
                async with asyncio.timeout(LIMIT_S):
                    await asyncio.gather(*writers)
                await asyncio.to_thread(server.start)
                assert await patiently(table.count) >= sum(sizes[name] for name in acknowledged)
            await check(db, sizes, acknowledged)


@pytest.mark.slow
async def test_connections_cut_again_and_again_lose_and_double_nothing(
    postgres_url: str, others: asyncpg.Connection
) -> None:
    sizes: dict[str, int] = {}
    acknowledged: set[str] = set()
    steps = 0
    async with await connect_async(postgres_url, **SETTINGS) as db:
        await made(db)
        table = await db.table("t")
        await table.insert(rows_of("counter", 4))
        sizes["counter"] = 4
        end = asyncio.Event()

        async def cut() -> int:
            cuts = 0
            while not end.is_set():
                await asyncio.sleep(0.1)
                cuts += await others.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name = 'vectable'"
                    " ORDER BY random() LIMIT 1) AS found"
                )
            return cuts

        async def insert(name: str) -> None:
            for turn in range(15):
                batch = f"{name}.{turn}"
                sizes[batch] = BATCH
                with suppress(OutcomeUnknown):
                    await patiently(lambda batch=batch: table.insert(rows_of(batch), on_conflict="skip"))
                    acknowledged.add(batch)

        async def count_up(key: str) -> None:
            """Steps acknowledged are made once."""
            nonlocal steps
            for _ in range(15):
                at = (await patiently(lambda: table.get(key)))["n"]
                with suppress(OutcomeUnknown):
                    changed = await patiently(lambda at=at: table.update(table.id == key, {"n": at + 1}))
                    assert changed == 1
                    steps += 1

        async def read() -> None:
            while not end.is_set():
                found = await patiently(table.similar("counter 1", on="emb").limit(3).collect)
                assert len(found) == 3
                await patiently(table.where(table.batch == "counter").count)

        reader, cutter = asyncio.create_task(read()), asyncio.create_task(cut())
        try:
            await asyncio.gather(insert("a"), insert("b"), count_up("counter/0"), count_up("counter/1"))
        finally:
            end.set()
            cuts = await cutter
            await reader
        assert cuts > 2
        await check(db, sizes, acknowledged)
        counters = [(await table.get(f"counter/{i}"))["n"] for i in (0, 1)]
        assert steps <= sum(counters) <= 30


async def _waiting(connection: asyncpg.Connection, least: int) -> None:
    """Until so many wait for a lock of somebody else's."""
    while await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < least:
        await asyncio.sleep(0.01)


async def test_a_deadlock_with_somebody_s_transaction_is_survived(
    postgres_url: str, others: asyncpg.Connection
) -> None:
    async with await connect_async(postgres_url, **SETTINGS) as db:
        await made(db)
        table = await db.table("t")
        await table.insert(rows_of("x"))
        # Whoever waits looks for a deadlock once, after a while. The others would do so far later, and ours
        # begins the wait that closes the circle only when they wait: so it is we who are stopped.
        await others.execute("SET deadlock_timeout = '90s'; BEGIN; SELECT FROM t WHERE id = 'x/5' FOR UPDATE")
        third = await plain(postgres_url)
        await third.execute("BEGIN; SELECT FROM t WHERE id = 'x/3' FOR UPDATE")
        ours = asyncio.create_task(table.update(table.batch == "x", {"title": "changed"}))
        await _waiting(third, 1)
        theirs = asyncio.create_task(others.execute("SELECT FROM t WHERE id = 'x/0' FOR UPDATE"))
        await _waiting(third, 2)
        await third.execute("COMMIT")
        await third.close()
        await theirs
        await others.execute("COMMIT")
        assert await ours == BATCH
        assert await table.where(table.title == "changed").count() == BATCH


async def test_serialisation_failures_of_others_are_theirs(
    postgres_url: str, others: asyncpg.Connection
) -> None:
    """Our reads and writes never fail because somebody uses a stricter isolation than we do."""
    async with await connect_async(postgres_url, **SETTINGS) as db:
        await made(db)
        table = await db.table("t")
        await table.insert(rows_of("x"))
        transaction = others.transaction(isolation="serializable")
        await transaction.start()
        assert await others.fetchval("SELECT sum(n) FROM t") == 0
        assert await table.update(table.id == "x/1", {"n": 1}) == 1
        await others.execute("SELECT FROM t WHERE id = 'x/2' FOR UPDATE")
        ours = asyncio.create_task(table.update(table.batch == "x", {"n": 7}))
        await _waiting(others, 1)
        with pytest.raises(asyncpg.SerializationError):
            await others.execute("SELECT FROM t WHERE id = 'x/1' FOR UPDATE")
        await transaction.rollback()
        assert await ours == BATCH
        assert await table.where(table.n == 7).count() == BATCH


async def test_a_pool_that_runs_dry_refuses_after_the_wait(
    postgres_url: str, others: asyncpg.Connection
) -> None:
    """Whatever is asked: nobody waits for ever, and the next one in time is served."""
    settings = {**SETTINGS, "postgres_pool_max": 2, "postgres_pool_wait_ms": 300}
    async with await connect_async(postgres_url, **settings) as db:
        await made(db)
        table = await db.table("t")
        await table.insert(rows_of("x"))
        transaction = others.transaction()
        await transaction.start()
        await others.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        stuck = [asyncio.create_task(table.count()) for _ in range(2)]
        await _waiting(others, 2)
        asked = [
            table.count(),
            table.get("x/1"),
            table.insert(rows_of("y")),
            table.update(table.id == "x/1", {"n": 1}),
            table.similar("x 1", on="emb").collect(),
            db.create_table("u", {"n": "int"}),
        ]
        async with asyncio.timeout(LIMIT_S):
            told = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(e) for e in told] == [Overloaded] * len(asked)
        assert all(e.retryable and e.context["retry_after_s"] >= 1 for e in told)  # type: ignore[union-attr]
        await transaction.rollback()
        assert await asyncio.gather(*stuck) == [BATCH, BATCH]
        assert await table.count() == BATCH


@pytest.mark.slow
async def test_a_server_killed_in_the_middle_of_an_index_build_leaves_nothing_to_repair() -> None:
    rows, dimensions = 3_000, 16
    matrix = clustered_vectors(rows, dimensions)
    with temporary_server() as server:
        url = server.url()
        async with await connect_async(url, **SETTINGS, resident_bytes=0) as db:
            table = await db.create_table("t", {"v": {"type": "vector", "dimensions": dimensions}})
            await table.insert([{"id": f"{i:05d}", "v": vector} for i, vector in enumerate(matrix)])
            holder = await plain(url)
            (cells,) = await holder.fetchrow(
                "SELECT format('vectable.%I', relname) FROM pg_class WHERE relname ~ '^v_' AND relkind = 'r'"
            )
            # A writer that does not end keeps the build under way.
            await holder.execute(f"BEGIN; LOCK TABLE {cells} IN ROW EXCLUSIVE MODE")
            await table.create_index("v", "hnsw", wait=False)
            [job] = [j for j in await db.jobs() if j.kind == "index"]
            watcher = await plain(url)
            async with asyncio.timeout(LIMIT_S):
                while not await watcher.fetchval("SELECT count(*) FROM pg_stat_progress_create_index"):
                    await asyncio.sleep(0.02)
            await asyncio.to_thread(server.kill)
            with suppress(Exception):
                await asyncio.gather(holder.close(timeout=1), watcher.close(timeout=1))
            await asyncio.to_thread(server.start)
            assert await patiently(table.count) == rows
            ended = await patiently(lambda: db.wait(job.id))
            watcher = await plain(url)
            try:
                valid = [
                    r[0]
                    for r in await watcher.fetch(
                        "SELECT i.indisvalid FROM pg_index i JOIN pg_am a ON a.oid ="
                        " (SELECT relam FROM pg_class WHERE oid = i.indexrelid) WHERE a.amname = 'hnsw'"
                    )
                ]
            finally:
                await watcher.close()
            assert ended.status == "done"
            assert valid == [True], "what the dead server left half built is gone"
            [hit] = await table.similar(matrix[7], on="v").limit(1).collect()
            assert hit["id"] == "00007"
