"""What processes that are gone left behind: jobs, also unrecorded ones, pending cells; each taken up once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.engine.conftest import Engine
from tests.waiting import LIMIT_S, until_async
from vectable.core.context import LOCAL
from vectable.engine import jobs as jobs_module
from vectable.engine import sweep as sweep_module
from vectable.engine.jobs import Progress
from vectable.errors import BackendBusy, DatabaseDamaged, DiskFull, ReadOnlyDatabase, TableNotFound

COLUMNS: dict[str, Any] = {"title": "string"}


async def _table(engine: Engine, **options: Any) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    await engine.columns.add(LOCAL, "t", "emb", source_column="title", **options)


async def _abandoned(engine: Engine, rows: int) -> Engine:
    """Rows written by a process that died before it embedded them; the engine of the next process."""

    async def crash() -> None:
        raise asyncio.CancelledError

    engine.provider.before = crash
    with pytest.raises(asyncio.CancelledError):
        await engine.writer.insert(LOCAL, "t", [{"title": f"lost {i}"} for i in range(rows)], inline=True)
    engine.provider.before = None
    return _next(engine)


def _next(engine: Engine) -> Engine:
    survivor = engine.again()
    survivor.catalog.marks.update(engine.catalog.marks)
    return survivor


async def _until_ready(engine: Engine, count: int) -> None:
    await until_async(lambda: engine.states("t", "emb"), lambda states: states == {"ready": count})


async def test_few_cells_are_embedded_before_the_first_write_returns(engine: Engine) -> None:
    await _table(engine)
    survivor = await _abandoned(engine, 30)
    await survivor.writer.insert(LOCAL, "t", [{"title": "next"}])
    assert await survivor.states("t", "emb") == {"ready": 31}
    assert await survivor.jobs.list(LOCAL) == []


async def test_many_cells_become_one_job(engine: Engine) -> None:
    await _table(engine)
    survivor = await _abandoned(engine, 130)
    writes = [survivor.writer.insert(LOCAL, "t", [{"title": f"next {i}"}]) for i in range(5)]
    await asyncio.gather(*writes)
    await _until_ready(survivor, 135)
    [job] = await survivor.jobs.list(LOCAL)
    assert job.kind == "embed"
    assert job.total >= 130
    await survivor.close()


async def test_a_sweep_that_fails_fails_no_write(engine: Engine) -> None:
    await _table(engine)
    survivor = await _abandoned(engine, 3)
    survivor.provider.down = True
    result = await survivor.writer.insert(LOCAL, "t", [{"title": "next"}])
    assert result.inserted == 1
    survivor.provider.down = False


async def test_a_process_that_stays_sweeps_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "_TENDING_S", 0.02)
    monkeypatch.setattr(sweep_module, "_GRACE_S", 0.02)
    await _table(engine)
    server = engine.again()
    tending = asyncio.create_task(server.sweeper.tend())
    await _abandoned(engine, 7)
    server.catalog.marks.update(engine.catalog.marks)
    await _until_ready(server, 7)
    tending.cancel()
    await server.close()


async def test_a_writer_that_goes_on_sweeps_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "_WRITING_S", 0.0)
    monkeypatch.setattr(sweep_module, "_GRACE_S", 0.02)
    await _table(engine)
    writer = engine.again()
    await writer.writer.insert(LOCAL, "t", [{"title": "first"}])
    engine.catalog.marks.update(writer.catalog.marks)
    await _abandoned(engine, 7)
    writer.catalog.marks.update(engine.catalog.marks)
    await writer.writer.insert(LOCAL, "t", [{"title": "second"}])
    await _until_ready(writer, 9)
    await writer.sweeper.close()
    await writer.close()


async def test_cells_somebody_is_about_to_embed_are_left_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "_GRACE_S", 0.0)  # it is over when the writer is done
    await _table(engine)
    server = _next(engine)
    look, seen = server.sweeper._pending, list[int]()

    async def write_and_look(title: str) -> None:
        embedding, looked = asyncio.Event(), asyncio.Event()

        async def until_looked_at() -> None:
            embedding.set()
            await looked.wait()

        async def pending() -> dict[str, Any]:
            if looked.is_set():
                await writing
            server.catalog.marks.update(engine.catalog.marks)
            found = await look()
            seen.append(sum(map(len, found.values())))
            looked.set()
            return found

        engine.provider.before = until_looked_at
        monkeypatch.setattr(server.sweeper, "_pending", pending)
        writing = asyncio.create_task(engine.writer.insert(LOCAL, "t", [{"title": title}]))
        await embedding.wait()
        await server.sweeper._abandoned()

    for i in range(3):
        await write_and_look(f"new {i}")
    assert seen == [1, 0] * 3
    assert await engine.jobs.list(LOCAL) == []
    assert len(engine.provider.embedded) == 3


@pytest.mark.parametrize("rows", [20, 150])
async def test_a_column_whose_backfill_never_began_is_filled(
    engine: Engine, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    await engine.writer.insert(LOCAL, "t", [{"title": f"t{i}"} for i in range(rows)])

    async def die(*_: Any) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(engine.refresher, "backfill", die)
    with pytest.raises(asyncio.CancelledError):
        await engine.columns.add(LOCAL, "t", "emb", source_column="title")
    survivor = _next(engine)
    await survivor.sweeper.sweep()
    assert await survivor.jobs.list(LOCAL) == [], "whoever said so may still be about to"
    for key, entry in (await engine.state.scan("owed/")).items():
        dead = json.loads(entry.value) | {"pid": 2**22 + 1}
        await engine.state.commit(puts={key: json.dumps(dead).encode()})
    await survivor.sweeper.sweep()
    await _until_ready(survivor, rows)
    [job] = await survivor.jobs.list(LOCAL)
    assert (await survivor.jobs.wait(job.id, LIMIT_S)).status == "done"
    assert await engine.state.scan("owed/") == {}
    assert await engine.state.scan("open-job/") == {}
    await survivor.close()


@pytest.mark.parametrize("rows", [20, 150])
async def test_nothing_is_owed_any_more_once_a_column_is_filled(engine: Engine, rows: int) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    await engine.writer.insert(LOCAL, "t", [{"title": f"t{i}"} for i in range(rows)])
    *_, job = await engine.columns.add(LOCAL, "t", "emb", source_column="title")
    if job is not None:
        await engine.jobs.wait(job, LIMIT_S)
    assert await engine.state.scan("owed/") == {}


async def test_whoever_waits_for_a_job_takes_it_over(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "_PATIENCE", 1)
    runs = []

    async def work(payload: dict[str, Any], progress: Progress) -> None:
        runs.append(payload)
        await asyncio.sleep(600 if len(runs) == 1 else 0)

    engine.jobs.register("long", work)
    job_id = await engine.jobs.start("long", "t", {}, 1)
    survivor = engine.again()
    survivor.jobs.register("long", work)
    waiting = asyncio.create_task(survivor.jobs.wait(job_id, LIMIT_S))
    await asyncio.sleep(0.4)
    assert len(runs) == 1, "its process is at work"
    await engine.jobs.close()
    assert (await waiting).status == "done"
    assert len(runs) == 2


async def test_a_job_that_cannot_even_say_how_it_ended_tells_who_waits(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = engine.state.commit

    async def full(*_: Any, **__: Any) -> None:
        raise DiskFull("no space left", hint="free some")

    async def work(payload: dict[str, Any], progress: Progress) -> None:
        monkeypatch.setattr(engine.state, "commit", full)

    engine.jobs.register("filling", work)
    job_id = await engine.jobs.start("filling", "t", {}, 1)
    with pytest.raises(DiskFull):
        await engine.jobs.wait(job_id, LIMIT_S)
    monkeypatch.setattr(engine.state, "commit", commit)
    # Its lease could not be given back either; it is nobody's all the same.
    engine.jobs.register("filling", lambda payload, progress: asyncio.sleep(0))
    assert await engine.jobs.resume() == 1
    assert (await engine.jobs.wait(job_id, LIMIT_S)).status == "done"


async def test_a_stopped_job_is_over_before_close_returns(engine: Engine) -> None:
    begun, ended = asyncio.Event(), []

    async def work(payload: dict[str, Any], progress: Progress) -> None:
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0.05)
            ended.append(progress.stopped)

    engine.jobs.register("slow", work)
    await engine.jobs.start("slow", "t", {}, 1)
    await begun.wait()
    await engine.jobs.close()
    assert ended == [True]


async def test_a_job_outlives_changes_of_its_tables_definition(engine: Engine) -> None:
    await _table(engine)
    entered = asyncio.Event()

    async def slow() -> None:
        entered.set()
        await asyncio.sleep(0.05)

    engine.provider.before = slow
    rows = [{"title": f"t{i}"} for i in range(150)]
    result = await engine.writer.insert(LOCAL, "t", rows)
    await entered.wait()
    await engine.catalog.add_columns(LOCAL, "t", {"extra": "int"})
    await engine.catalog.rename(LOCAL, "t", "u")
    assert (await engine.jobs.wait(result.job or "", LIMIT_S)).status == "done"
    assert await engine.states("u", "emb") == {"ready": 150}


@pytest.mark.parametrize("change", ["add", "drop"])
async def test_an_insert_is_acknowledged_whatever_happens_to_the_table_after_it(
    engine: Engine, change: str
) -> None:
    """The definition changes between the write and the embedding."""
    await _table(engine)
    changed = False

    async def meddle() -> None:
        nonlocal changed
        if not changed:
            changed = True
            if change == "add":
                await engine.catalog.add_columns(LOCAL, "t", {"extra": "int"})
            else:
                await engine.catalog.drop(LOCAL, "t")

    engine.provider.before = meddle
    result = await engine.writer.insert(LOCAL, "t", [{"title": "a"}, {"title": "b"}])
    assert result.inserted == 2
    if change == "add":
        assert await engine.states("t", "emb") == {"ready": 2}
    else:
        with pytest.raises(TableNotFound):
            await engine.rows("t")


async def test_an_insert_is_acknowledged_though_the_store_is_busy_after_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _table(engine)

    async def busy(*_: Any, **__: Any) -> Any:
        raise BackendBusy("somebody else writes", hint="try again")

    monkeypatch.setattr(engine.refresher, "_pending_keys", busy)
    result = await engine.writer.insert(LOCAL, "t", [{"title": "a"}])
    assert (result.inserted, result.pending) == (1, 1)


async def test_many_writers_of_one_row_all_get_through(engine: Engine) -> None:
    await _table(engine)
    await engine.writer.insert(LOCAL, "t", [{"id": "a", "title": "x"}])
    where = {"column": "id", "operator": "=", "value": "a"}
    writes = [engine.writer.update(LOCAL, "t", where, {"title": f"x{i}"}) for i in range(120)]
    assert await asyncio.gather(*writes) == [1] * 120
    assert await engine.states("t", "emb") == {"ready": 1}


async def test_a_change_that_cannot_be_finished_now_is_finished_later(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash in the middle of a change, then a process that may only read."""
    await _table(engine)

    async def die(*_: Any, **_options: Any) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(engine.catalog, "_settle", die)
        with pytest.raises(asyncio.CancelledError):
            await engine.catalog.add_columns(LOCAL, "t", {"extra": "int"})

    async def refuse(*_: Any, **__: Any) -> None:
        raise ReadOnlyDatabase("it may not be written")

    reader = _next(engine)
    with monkeypatch.context() as patch:
        patch.setattr(engine.backend, "alter", refuse)
        table = await reader.catalog.get(LOCAL, "t")
        assert [c.name for c in table.columns] == ["id", "title", "emb"]
    assert (await reader.catalog.get(LOCAL, "t")).columns[-1].name == "extra"


@pytest.mark.parametrize("record", [b"\xff", b"[]", b'{"table": 3}', b"{"])
async def test_records_that_cannot_be_read_are_damage(engine: Engine, record: bytes) -> None:
    await _table(engine)
    table = await engine.catalog.get(LOCAL, "t")
    job = await engine.jobs.start("embed", "t", {"table": table.id}, 0)
    await engine.jobs.wait(job, LIMIT_S)
    for key in (f"table/{table.id}", f"job/{job}", "lease/x"):
        await engine.state.commit(puts={key: record, "catalog": b"2"})
    with pytest.raises(DatabaseDamaged, match="table/"):
        await engine.again().catalog.get(LOCAL, "t")
    with pytest.raises(DatabaseDamaged, match="job/"):
        await engine.jobs.get(job)
    with pytest.raises(DatabaseDamaged, match="lease/"):
        await engine.leases.acquire("x")
