"""Jobs and leases: progress seen from anywhere, cancelled from anywhere, taken over when their process
dies."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import Engine
from tests.waiting import LIMIT_S
from vectable import connect_async
from vectable.core.context import LOCAL
from vectable.engine.jobs import Progress
from vectable.errors import AlreadyExists, InvalidInput, JobNotFound


async def test_a_job_tells_its_progress_and_end(engine: Engine) -> None:
    go = asyncio.Event()

    async def work(payload: dict[str, Any], progress: Progress) -> None:
        progress.add(payload["n"])
        await go.wait()
        progress.add(1)

    engine.jobs.register("count", work)
    job_id = await engine.jobs.start("count", "t", {"n": 4}, 5)
    seen = []
    async for job in engine.again().jobs.events(job_id):
        seen.append((job.status, job.done))
        if job.done == 4:
            go.set()
    assert seen[-1] == ("done", 5)
    assert ("running", 4) in seen
    last = await engine.jobs.get(job_id)
    assert last.finished_at is not None
    assert last.eta_s is None


async def test_a_failed_job_says_why(engine: Engine) -> None:
    async def work(payload: dict[str, Any], progress: Progress) -> None:
        raise InvalidInput("the cause", hint="the cure")

    engine.jobs.register("fail", work)
    job = await engine.jobs.wait(await engine.jobs.start("fail", "t", {}, 1), LIMIT_S)
    assert (job.status, job.error) == ("error", "the cause (the cure)")


async def test_a_job_is_cancelled_from_another_process(engine: Engine) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def work(payload: dict[str, Any], progress: Progress) -> None:
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            stopped.set()

    engine.jobs.register("sleep", work)
    job_id = await engine.jobs.start("sleep", "t", {}, 1)
    await begun.wait()
    job = await engine.again().jobs.cancel(job_id)
    assert job.status == "cancelled"
    await asyncio.wait_for(stopped.wait(), LIMIT_S)
    assert (await engine.jobs.get(job_id)).status == "cancelled"


async def test_unknown_jobs(engine: Engine) -> None:
    with pytest.raises(JobNotFound):
        await engine.jobs.get("nope")
    with pytest.raises(JobNotFound):
        await engine.jobs.cancel("nope")


async def test_a_job_whose_process_ended_is_resumed(engine: Engine) -> None:
    begun, runs = asyncio.Event(), []

    async def work(payload: dict[str, Any], progress: Progress) -> None:
        runs.append(payload)
        begun.set()
        if len(runs) == 1:
            await asyncio.sleep(600)

    engine.jobs.register("long", work)
    job_id = await engine.jobs.start("long", "t", {"a": 1}, 1)
    await begun.wait()
    survivor = engine.again()
    survivor.jobs.register("long", work)
    assert await survivor.jobs.resume() == 0, "its process is at work"
    await engine.jobs.close()
    assert await survivor.jobs.resume() == 1
    assert (await survivor.jobs.wait(job_id, LIMIT_S)).status == "done"
    assert runs == [{"a": 1}, {"a": 1}]


async def test_an_index_left_unfinished_is_finished_by_creating_it_again(tmp_path: Path) -> None:
    begun = asyncio.Semaphore(0)

    async def forever(payload: dict[str, Any], progress: Progress) -> None:
        begun.release()
        await asyncio.sleep(600)

    async with await connect_async(tmp_path) as survivor:
        database = await connect_async(tmp_path)
        columns = {name: {"type": "vector", "dimensions": 2} for name in ("a", "b")}
        table = await database.create_table("t", columns)
        await table.insert([{"a": [1, i], "b": [i, 1]} for i in range(20)])
        database.engine.jobs.register("index", forever)
        await table.create_index("a", "hnsw", m=8, wait=False)
        await table.create_index("b", "hnsw", name="over_b", wait=False)
        for _ in range(2):
            await asyncio.wait_for(begun.acquire(), LIMIT_S)
        same = await survivor.table("t")
        with pytest.raises(AlreadyExists):
            await same.create_index("b", "hnsw", name="over_b")  # its process is at work
        await database.close()
        made = await same.create_index("a", "hnsw", m=8)
        assert (made["name"], made["status"]) == ("a_hnsw", "ready")
        with pytest.raises(AlreadyExists):
            await same.create_index("b", "hnsw", name="over_b", m=8)  # another one
        assert [index["name"] for index in await same.indexes()] == ["a_hnsw", "over_b"]


async def test_a_lease_has_one_holder_and_a_growing_fence(engine: Engine) -> None:
    other = engine.again()
    first = await engine.leases.acquire("x")
    assert first is not None
    assert await other.leases.acquire("x") is None
    assert await other.leases.held("x")
    await engine.leases.release(first)
    second = await other.leases.acquire("x")
    assert second is not None
    assert second.fence == first.fence + 1
    assert not await engine.leases.renew(first), "a holder that was replaced is told"


@pytest.mark.parametrize("change", [{"expires": 0}, {"pid": 2**22 + 1}])
async def test_a_dead_holder_is_replaced(engine: Engine, change: dict[str, Any]) -> None:
    await engine.leases.acquire("x")
    entry = (await engine.state.get(["lease/x"]))["lease/x"]
    record = json.loads(entry.value) | change
    await engine.state.commit(puts={"lease/x": json.dumps(record).encode()})
    assert await engine.again().leases.acquire("x") is not None


@pytest.mark.skipif(sys.platform != "linux", reason="only there can containers be told apart")
async def test_a_holder_in_another_container_is_not_judged_by_its_number(engine: Engine) -> None:
    """Though its machine has the same name: process numbers are others there."""
    await engine.leases.acquire("x")
    entry = (await engine.state.get(["lease/x"]))["lease/x"]
    there = {"pid": 2**22 + 1, "host": socket.gethostname()}
    await engine.state.commit(puts={"lease/x": json.dumps(json.loads(entry.value) | there).encode()})
    assert await engine.again().leases.acquire("x") is None


async def test_jobs_are_listed_newest_first(engine: Engine) -> None:
    async def work(payload: dict[str, Any], progress: Progress) -> None:
        return None

    engine.jobs.register("quick", work)
    ids = []
    for _ in range(3):
        ids.append(await engine.jobs.start("quick", "t", {}, 0))
        await engine.jobs.wait(ids[-1], LIMIT_S)
        time.sleep(0.002)
    assert [j.id for j in await engine.jobs.list(LOCAL)] == ids[::-1]
