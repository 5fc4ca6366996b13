"""Embedding columns stay true: what is embedded when, what is not embedded again, and what a crash leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.engine.conftest import CountingProvider, Engine
from tests.waiting import LIMIT_S, until_async
from vectable.core.context import LOCAL
from vectable.errors import (
    AlreadyExists,
    InvalidInput,
    InvalidRow,
    ModelNotFound,
    UnknownColumn,
    Unsupported,
)
from vectable.providers.hashing import HashingProvider

COLUMNS: dict[str, Any] = {"title": "string", "teaches": "string", "n": {"type": "int", "default": 0}}


async def _table(engine: Engine, **options: Any) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    await engine.columns.add(LOCAL, "t", "emb", **({"source_column": "title"} | options))


async def test_insert_embeds_few_cells_at_once(engine: Engine) -> None:
    await _table(engine)
    result = await engine.writer.insert(LOCAL, "t", [{"title": f"t{i}"} for i in range(100)])
    assert (result.pending, result.errors, result.job) == (0, 0, None)
    assert await engine.states("t", "emb") == {"ready": 100}


async def test_insert_embeds_many_cells_as_a_job(engine: Engine) -> None:
    await _table(engine)
    result = await engine.writer.insert(LOCAL, "t", [{"title": f"t{i}"} for i in range(101)])
    assert result.pending == 101
    assert result.job is not None
    job = await engine.jobs.wait(result.job, LIMIT_S)
    assert (job.status, job.done, job.total, job.kind) == ("done", 101, 101, "embed")
    assert await engine.states("t", "emb") == {"ready": 101}


async def test_each_distinct_text_is_embedded_once(engine: Engine) -> None:
    await _table(engine)
    await engine.writer.insert(LOCAL, "t", [{"title": f"t{i % 7}"} for i in range(90)])
    result = await engine.writer.insert(LOCAL, "t", [{"title": f"t{i % 9}"} for i in range(500)])
    if result.job is not None:
        await engine.jobs.wait(result.job, LIMIT_S)
    assert sorted(map(str, engine.provider.embedded)) == sorted(f"t{i}" for i in range(9))


async def test_unrelated_updates_embed_nothing(engine: Engine) -> None:
    await _table(engine)
    await engine.writer.insert(LOCAL, "t", [{"id": "a", "title": "x", "n": 1}])
    engine.provider.embedded.clear()
    await engine.embedder.clear_cache(persistent=True)
    where = {"column": "id", "operator": "=", "value": "a"}
    await engine.writer.update(LOCAL, "t", where, {"n": 2, "teaches": "y"})
    await engine.writer.insert(LOCAL, "t", [{"id": "a", "title": "x", "n": 3}], on_conflict="replace")
    assert engine.provider.embedded == []
    assert await engine.states("t", "emb") == {"ready": 1}
    await engine.writer.update(LOCAL, "t", where, {"title": "z"})
    assert engine.provider.embedded == ["z"]


async def test_a_template_joins_columns_and_null_is_empty(engine: Engine) -> None:
    await _table(engine, source_column=None, template="{title}\n{teaches} {{{n}}}")
    await engine.writer.insert(
        LOCAL, "t", [{"title": "a", "teaches": "b", "n": 3}, {"title": "a"}, {"title": None, "teaches": "b"}]
    )
    assert engine.provider.embedded == ["a\nb {3}"]
    assert await engine.states("t", "emb") == {"ready": 1, "empty": 2}


async def test_a_default_stands_in_for_null_in_a_template(engine: Engine) -> None:
    columns = {"title": "string", "lang": {"type": "string", "default": "any"}}
    await engine.catalog.create(LOCAL, "t", columns)
    await engine.columns.add(LOCAL, "t", "emb", template="{lang}: {title}")
    await engine.writer.insert(LOCAL, "t", [{"title": "a", "lang": None}])
    assert engine.provider.embedded == ["any: a"]


async def test_a_failed_cell_keeps_its_error_and_can_be_retried(engine: Engine) -> None:
    await _table(engine)
    rows = [{"id": "a", "title": "good"}, {"id": "b", "title": "poison"}, {"id": "c", "title": "fine"}]
    result = await engine.writer.insert(LOCAL, "t", rows)
    assert (result.inserted, result.errors, result.pending) == (3, 1, 0)
    assert await engine.states("t", "emb") == {"ready": 2, "error": 1}
    job, matched = await engine.refresher.refresh(LOCAL, "t", "emb", errors_only=True)
    assert matched == 1
    await engine.jobs.wait(job, LIMIT_S)
    assert await engine.states("t", "emb") == {"ready": 2, "error": 1}
    where = {"column": "id", "operator": "=", "value": "b"}
    await engine.writer.update(LOCAL, "t", where, {"title": "cured"})
    assert await engine.states("t", "emb") == {"ready": 3}


async def test_a_model_that_is_down_fails_no_write(engine: Engine) -> None:
    await _table(engine)
    engine.provider.down = True
    result = await engine.writer.insert(LOCAL, "t", [{"title": "a"}, {"title": "b"}])
    assert result.inserted == 2
    assert result.pending + result.errors == 2
    engine.provider.down = False
    job, matched = await engine.refresher.refresh(LOCAL, "t", "emb")
    assert matched == 2
    assert (await engine.jobs.wait(job, LIMIT_S)).status == "done"
    assert await engine.states("t", "emb") == {"ready": 2}


async def test_a_crash_between_write_and_embed_is_drained_by_the_next_writer(engine: Engine) -> None:
    await _table(engine)

    async def crash() -> None:
        raise asyncio.CancelledError

    engine.provider.before = crash
    with pytest.raises(asyncio.CancelledError):
        await engine.writer.insert(LOCAL, "t", [{"title": "orphan"}])
    engine.provider.before = None
    assert len(await engine.rows("t")) == 1
    survivor = engine.again()
    survivor.catalog.marks.update(engine.catalog.marks)
    await survivor.writer.insert(LOCAL, "t", [{"title": "next"}])
    await until_async(lambda: survivor.states("t", "emb"), lambda states: states == {"ready": 2})
    await survivor.close()


async def test_a_slow_embed_never_overwrites_a_newer_row(engine: Engine) -> None:
    await _table(engine)
    entered, release = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        entered.set()
        await release.wait()

    engine.provider.before = pause
    slow = asyncio.create_task(engine.writer.insert(LOCAL, "t", [{"id": "a", "title": "old"}]))
    await entered.wait()
    engine.provider.before = None
    newer = {"id": "a", "title": "new"}
    # One embedder's passes come one after the other: whoever is quicker is another process.
    other = engine.again()
    other.catalog.marks.update(engine.catalog.marks)
    await other.writer.insert(LOCAL, "t", [newer], on_conflict="replace")
    release.set()
    await slow
    table = await engine.catalog.get(LOCAL, "t")
    expected = await engine.embedder.encode(["new"])
    version = table.column("emb").version.id
    async with engine.backend.view(table, other.catalog.marks[table.id]) as view:
        [cell] = [
            c
            async for b in view.scan(engine.backend.push(table, _true()), [], [version])
            for c in b.cells[version]
        ]
    assert cell.state == "ready"
    assert cell.vector == expected.vectors[0].tobytes()
    await other.close()


def _true() -> Any:
    from vectable.core.predicate import TRUE

    return TRUE


async def test_without_auto_update_the_rows_there_are_embedded_once(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    await engine.writer.insert(LOCAL, "t", [{"id": "a", "title": "x"}])
    await engine.columns.add(LOCAL, "t", "emb", source_column="title", auto_update=False)
    assert await engine.states("t", "emb") == {"ready": 1}


async def test_without_auto_update_nothing_is_embedded_until_asked(engine: Engine) -> None:
    await _table(engine, auto_update=False)
    await engine.writer.insert(LOCAL, "t", [{"id": "a", "title": "x"}])
    assert await engine.states("t", "emb") == {"new": 1}
    job, _ = await engine.refresher.refresh(LOCAL, "t", "emb")
    await engine.jobs.wait(job, LIMIT_S)
    assert await engine.states("t", "emb") == {"ready": 1}
    where = {"column": "id", "operator": "=", "value": "a"}
    await engine.writer.update(LOCAL, "t", where, {"title": "y"})
    assert await engine.states("t", "emb") == {"stale": 1}


async def test_a_refresh_makes_up_for_a_backfill_that_was_cancelled_before_it_began(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    rows = [{"title": f"t{i}" if i % 2 else None} for i in range(300)]
    await engine.writer.insert(LOCAL, "t", rows)
    with monkeypatch.context() as held:
        held.setattr(engine.jobs, "_begin", lambda job_id: None)
        _, _, job = await engine.columns.add(LOCAL, "t", "emb", source_column="title")
        assert job is not None
        await engine.jobs.cancel(job)
    assert await engine.states("t", "emb") == {"empty": 300}
    job, matched = await engine.refresher.refresh(LOCAL, "t", "emb")
    assert matched == 150
    assert (await engine.jobs.wait(job, LIMIT_S)).total == 150
    assert await engine.states("t", "emb") == {"ready": 150, "empty": 150}
    assert (await engine.refresher.refresh(LOCAL, "t", "emb"))[1] == 0


async def test_a_forced_refresh_computes_anew_only_what_matches(engine: Engine) -> None:
    await _table(engine)
    await engine.writer.insert(LOCAL, "t", [{"title": f"t{i}", "n": i} for i in range(5)])
    engine.provider.embedded.clear()
    job, matched = await engine.refresher.refresh(LOCAL, "t", "emb", where={"sql": "n >= 3"}, force=True)
    assert matched == 2
    await engine.jobs.wait(job, LIMIT_S)
    assert sorted(map(str, engine.provider.embedded)) == ["t3", "t4"]
    assert await engine.states("t", "emb") == {"ready": 5}


@pytest.mark.parametrize("rows", [3, 150])
async def test_a_column_added_to_rows_is_filled(engine: Engine, rows: int) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    given = [{"id": f"{i:04}", "title": f"t{i}"} for i in range(rows)]
    await engine.writer.insert(LOCAL, "t", [*given, {"id": "null"}])
    _, column, job = await engine.columns.add(LOCAL, "t", "emb", source_column="title")
    assert column.version.dimensions == 32
    assert (job is None) == (rows < 100)
    if job is not None:
        assert (await engine.jobs.wait(job, LIMIT_S)).status == "done"
    assert await engine.states("t", "emb") == {"ready": rows, "empty": 1}


async def test_a_vector_column_of_images(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", {"picture": "image", "title": "string"})
    await engine.columns.add(LOCAL, "t", "emb", source_column="picture")
    await engine.writer.insert(LOCAL, "t", [{"picture": b"\x89PNG one"}, {"title": "none"}])
    assert engine.provider.embedded == [b"\x89PNG one"]
    assert await engine.states("t", "emb") == {"ready": 1, "empty": 1}
    with pytest.raises(InvalidInput, match="cannot be embedded as text"):
        await engine.columns.add(LOCAL, "t", "emb2", template="{title} {picture}")


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"source_column": "titel"}, UnknownColumn, "did you mean"),
        ({"template": "{titel}"}, UnknownColumn, "did you mean"),
        ({"template": "nothing"}, InvalidInput, "uses no column"),
        ({"template": "{title!r}"}, InvalidInput, "plain column names"),
        ({"template": "{title.x}"}, InvalidInput, "cannot name a column"),
        ({"template": "{title"}, InvalidInput, "not valid"),
        ({}, InvalidInput, "either a source column or a template"),
        ({"source_column": "title", "template": "{title}"}, InvalidInput, "either"),
        ({"source_column": "title", "metric": "x"}, InvalidInput, "unknown metric"),
        ({"source_column": "title", "model": "no-such-model-at-all"}, ModelNotFound, "no-such-model-at-all"),
    ],
)
async def test_an_impossible_column_is_refused(
    engine: Engine, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    with pytest.raises(error, match=says):
        await engine.columns.add(LOCAL, "t", "emb", **options)
    assert [c.name for c in (await engine.catalog.get(LOCAL, "t")).columns] == ["id", *COLUMNS]


async def test_a_computed_column_takes_no_values(engine: Engine) -> None:
    await _table(engine)
    with pytest.raises(InvalidRow, match="is computed"):
        await engine.writer.insert(LOCAL, "t", [{"title": "x", "emb": [1.0] * 32}])
    with pytest.raises(AlreadyExists):
        await engine.columns.add(LOCAL, "t", "emb", source_column="title")
    await engine.columns.add(LOCAL, "t", "emb", source_column="title", if_exists="ok")
    with pytest.raises(AlreadyExists):
        await engine.columns.add(LOCAL, "t", "emb", source_column="teaches", if_exists="ok")


async def test_a_text_model_refuses_images(engine: Engine) -> None:
    engine.provider.modalities = frozenset({"text"})
    await engine.catalog.create(LOCAL, "t", {"picture": "image"})
    with pytest.raises(Unsupported, match="does not embed images"):
        await engine.columns.add(LOCAL, "t", "emb", source_column="picture")


async def test_what_stays_pending_is_counted_and_not_warned_of(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Warnings reach the standard error of plain scripts, which learn of it from the result."""
    await _table(engine)

    other_model = CountingProvider(HashingProvider(32, stands_for="another/model"))
    elsewhere = Engine(engine.storage, engine.settings, other_model)
    with caplog.at_level("INFO", logger="vectable"):
        result = await elsewhere.writer.insert(LOCAL, "t", [{"title": "a"}])
    await elsewhere.close()
    assert result.pending == 1
    told = [r for r in caplog.records if "stay pending" in r.message]
    assert {r.levelname for r in told} == {"INFO"}
