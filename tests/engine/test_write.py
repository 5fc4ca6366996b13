"""Writing rows: all or none, by key, with precise refusals, and safe to repeat."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from tests.engine.conftest import Engine
from vectable.core.context import LOCAL, Context
from vectable.core.predicate import Clause
from vectable.errors import InvalidInput, InvalidRow, KeyExists, UnknownColumn, VectableError

COLUMNS: dict[str, Any] = {
    "title": "string",
    "stars": {"type": "int", "default": 0},
    "at": "timestamp",
    "meta": "json",
    "tags": "string[]",
    "picture": "image",
}


async def test_rows_come_back_in_their_kept_form(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    given = {
        "id": "ä'\";--%",
        "title": "",
        "stars": 2**63 - 1,
        "at": "2026-01-31T12:00:00.000001+02:00",
        "meta": {"a": [1, 1.5, None, {"b": "x"}]},
        "tags": ["a", ""],
        "picture": {"base64": "aGVsbG8="},
    }
    result = await engine.writer.insert(LOCAL, "t", [given])
    assert result.ids == ["ä'\";--%"]
    [row] = await engine.rows("t")
    moment = dt.datetime(2026, 1, 31, 10, 0, 0, 1, tzinfo=dt.UTC)
    assert row == {**given, "at": moment, "picture": b"hello"}


async def test_ids_are_made_ascending_uuid7(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    result = await engine.writer.insert(LOCAL, "t", [{"title": str(i)} for i in range(300)])
    assert result.ids == sorted(result.ids)
    assert {uuid.UUID(i).version for i in result.ids} == {7}
    assert [r["title"] for r in await engine.rows("t")] == [str(i) for i in range(300)]


@pytest.mark.parametrize(
    ("row", "column", "says"),
    [
        ({"titel": "x"}, "titel", "did you mean 'title'"),
        ({"title": 3}, "title", "expected a string"),
        ({"title": "a\x00b"}, "title", "U\\+0000"),
        ({"title": "\ud800"}, "title", "surrogate"),
        ({"stars": 2**63}, "stars", "64 bits"),
        ({"stars": True}, "stars", "expected an integer"),
        ({"stars": 1.5}, "stars", "expected an integer"),
        ({"at": "2026-01-31T12:00:00"}, "at", "no time zone"),
        ({"at": "yesterday"}, "at", "not a timestamp"),
        ({"meta": {"x": float("nan")}}, "meta", "finite"),
        ({"tags": "a"}, "tags", "list of string"),
        ({"tags": ["a", None]}, "tags", "expected a string"),
        ({"picture": {"base64": "!"}}, "picture", "base64"),
    ],
)
async def test_a_bad_row_is_named_and_nothing_is_kept(
    engine: Engine, row: dict[str, Any], column: str, says: str
) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    with pytest.raises(InvalidRow, match=says) as caught:
        await engine.writer.insert(LOCAL, "t", [{"title": "good"}, row])
    assert caught.value.context["row"] == 1
    assert caught.value.context["column"] == column
    assert await engine.rows("t") == []


async def test_vectors_are_checked_before_anything_is_stored(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", {"v": {"type": "vector", "dimensions": 2}})
    for bad in ([1.0], [0, 0], [1, float("inf")], [1, 1e39], ["a", 1], {"base64": "AAA="}, "x", [[1, 2]]):
        with pytest.raises(InvalidRow, match="row 0, column 'v'"):
            await engine.writer.insert(LOCAL, "t", [{"v": bad}])
    await engine.writer.insert(LOCAL, "t", [{"id": "a", "v": np.array([3.0, 4.0])}, {"id": "b"}])
    assert await engine.states("t", "v") == {"ready": 1, "empty": 1}


async def test_a_taken_key_is_refused_replaced_or_skipped(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    await engine.writer.insert(LOCAL, "t", [{"id": "a", "title": "old", "stars": 5}])
    with pytest.raises(KeyExists) as caught:
        await engine.writer.insert(LOCAL, "t", [{"id": "b"}, {"id": "a"}])
    assert caught.value.context["keys"] == ["a"]
    if engine.backend.capabilities.atomic_batch:
        assert [r["id"] for r in await engine.rows("t")] == ["a"]
    skipped = await engine.writer.insert(LOCAL, "t", [{"id": "a"}, {"id": "c"}], on_conflict="skip")
    assert (skipped.inserted, skipped.skipped) == (1, 1)
    replaced = await engine.writer.insert(LOCAL, "t", [{"id": "a", "title": "new"}], on_conflict="replace")
    assert (replaced.inserted, replaced.replaced) == (0, 1)
    row = next(r for r in await engine.rows("t") if r["id"] == "a")
    assert (row["title"], row["stars"]) == ("new", 0)


async def test_a_key_twice_in_one_call(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    twice = [{"id": "a", "title": "first"}, {"id": "a", "title": "second"}]
    with pytest.raises(KeyExists, match="row 1 has the key of row 0"):
        await engine.writer.insert(LOCAL, "t", twice)
    await engine.writer.insert(LOCAL, "t", twice, on_conflict="skip")
    assert (await engine.rows("t"))[0]["title"] == "first"
    result = await engine.writer.insert(LOCAL, "t", twice, on_conflict="replace")
    assert (await engine.rows("t"))[0]["title"] == "second"
    assert result.replaced == 2


async def test_update_and_delete_by_filter(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    rows = [{"id": f"{i:04}", "title": f"É{i % 3}", "stars": i} for i in range(2500)]
    await engine.writer.insert(LOCAL, "t", rows)
    where = {"column": "title", "operator": "ilike", "value": "é1"}
    assert await engine.writer.update(LOCAL, "t", where, {"stars": -1}) == 833
    assert sum(r["stars"] == -1 for r in await engine.rows("t")) == 833
    assert await engine.writer.delete(LOCAL, "t", {"sql": "stars = ?", "params": [-1]}) == 833
    assert len(await engine.rows("t")) == 2500 - 833


async def test_changing_every_row_must_be_said(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    await engine.writer.insert(LOCAL, "t", [{"id": "a"}])
    for where in (None, [], {}):
        with pytest.raises(InvalidInput):
            await engine.writer.delete(LOCAL, "t", where)
        with pytest.raises(InvalidInput):
            await engine.writer.update(LOCAL, "t", where, {"stars": 1})
    assert await engine.writer.update(LOCAL, "t", None, {"stars": 1}, all=True) == 1
    assert await engine.writer.delete(LOCAL, "t", None, all=True) == 1


@pytest.mark.parametrize("values", [{}, {"id": "b"}, {"emb": [1.0] * 32}, {"nope": 1}, {"stars": "x"}])
async def test_an_impossible_update_changes_nothing(engine: Engine, values: dict[str, Any]) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    await engine.columns.add(LOCAL, "t", "emb", source_column="title")
    await engine.writer.insert(LOCAL, "t", [{"id": "a", "title": "x"}])
    before = await engine.rows("t")
    with pytest.raises(VectableError):
        await engine.writer.update(LOCAL, "t", {"column": "id", "operator": "=", "value": "a"}, values)
    assert await engine.rows("t") == before


async def test_update_keeps_given_vectors(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", {"n": "int", "v": {"type": "vector", "dimensions": 2}})
    await engine.writer.insert(LOCAL, "t", [{"id": "a", "n": 1, "v": [1, 2]}])
    await engine.writer.update(LOCAL, "t", {"column": "n", "operator": "=", "value": 1}, {"n": 2})
    assert await engine.states("t", "v") == {"ready": 1}
    await engine.writer.update(LOCAL, "t", {"column": "n", "operator": "=", "value": 2}, {"v": None})
    assert await engine.states("t", "v") == {"empty": 1}


async def test_updates_at_once_lose_nothing(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", {"a": "int", "b": "int"})
    await engine.writer.insert(LOCAL, "t", [{"id": str(i), "a": 0, "b": 0} for i in range(50)])
    other = engine.again()
    other.catalog.marks.update(engine.catalog.marks)
    await asyncio.gather(
        engine.writer.update(LOCAL, "t", None, {"a": 1}, all=True),
        other.writer.update(LOCAL, "t", None, {"b": 1}, all=True),
    )
    # A write of its own makes a process see all that came before, also where visibility is delayed.
    await engine.writer.insert(LOCAL, "t", [{"id": "last", "a": 1, "b": 1}])
    assert {(r["a"], r["b"]) for r in await engine.rows("t")} == {(1, 1)}


async def test_a_row_that_stops_matching_is_left_alone(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", {"n": "int", "who": "string"})
    await engine.writer.insert(LOCAL, "t", [{"id": str(i), "n": 0} for i in range(20)])
    unclaimed = {"column": "who", "operator": "is null"}
    counts = await asyncio.gather(
        *(
            e.writer.update(LOCAL, "t", unclaimed, {"who": w})
            for e, w in ((engine, "x"), (engine.again(), "y"))
        )
    )
    assert sum(counts) == 20, "each row is claimed exactly once"


async def test_a_retry_with_the_same_key_changes_nothing(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    once = Context(idempotency_key="k1")
    first = await engine.writer.insert(once, "t", [{"title": "x"}, {"title": "y"}])
    again = await engine.again().writer.insert(once, "t", [{"title": "x"}, {"title": "y"}])
    assert first.ids == again.ids
    assert (again.inserted, again.replaced) == (2, 0)
    assert len(await engine.rows("t")) == 2


async def test_a_stream_says_how_far_it_came(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)

    async def batches(bad: bool) -> AsyncIterator[list[dict[str, Any]]]:
        for start in range(0, 30, 10):
            rows: list[dict[str, Any]] = [{"id": f"{start + i:03}"} for i in range(10)]
            if bad and start == 20:
                rows[4]["stars"] = "many"
            yield rows

    with pytest.raises(InvalidRow, match="row 24") as caught:
        await engine.writer.insert_stream(LOCAL, "t", batches(bad=True))
    assert caught.value.context["row"] == 24
    assert caught.value.context["inserted"] == 20
    assert len(await engine.rows("t")) == 20
    done = await engine.writer.insert_stream(LOCAL, "t", batches(bad=False), on_conflict="skip")
    assert (done.inserted, done.skipped) == (10, 20)


async def test_a_scope_narrows_every_write(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    await engine.writer.insert(LOCAL, "t", [{"id": str(i), "stars": i} for i in range(10)])
    scoped = Context(scope=Clause(column="stars", operator="<", value=3))
    assert await engine.writer.update(scoped, "t", None, {"title": "mine"}, all=True) == 3
    assert await engine.writer.delete(scoped, "t", None, all=True) == 3
    assert len(await engine.rows("t")) == 7


async def test_a_filter_on_a_column_that_is_not_there(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    with pytest.raises(UnknownColumn, match="did you mean 'stars'"):
        await engine.writer.delete(LOCAL, "t", {"column": "start", "operator": "=", "value": 1})


async def test_a_stream_is_drawn_at_most_one_batch_ahead(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    drawn = 0

    async def batches() -> AsyncIterator[list[dict[str, Any]]]:
        nonlocal drawn
        for n in range(20):
            drawn = n + 1
            yield [{"id": f"{n}-{i}"} for i in range(3)]

    ahead: list[int] = []
    done = await engine.writer.insert_stream(
        LOCAL, "t", batches(), progress=lambda rows, _: ahead.append(drawn - rows // 3)
    )
    assert done.inserted == 60
    assert max(ahead) <= 1


async def test_a_source_that_fails_leaves_what_it_gave_before(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)

    async def batches() -> AsyncIterator[list[dict[str, Any]]]:
        yield [{"id": "a"}]
        yield [{"id": "b"}]
        raise OSError("the source broke")

    with pytest.raises(OSError, match="the source broke"):
        await engine.writer.insert_stream(LOCAL, "t", batches())
    assert [row["id"] for row in await engine.rows("t")] == ["a", "b"]


async def test_a_cancelled_stream_keeps_what_it_told_and_no_more(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    told: list[int] = []
    both = asyncio.Event()

    def progress(rows: int, _: int) -> None:
        told.append(rows)
        if rows == 20:
            both.set()

    async def batches() -> AsyncIterator[list[dict[str, Any]]]:
        for start in (0, 10):
            yield [{"id": f"{start + i:03}"} for i in range(10)]
        await asyncio.Event().wait()

    stream = asyncio.create_task(engine.writer.insert_stream(LOCAL, "t", batches(), progress=progress))
    await both.wait()
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream
    assert told == [10, 20]
    assert len(await engine.rows("t")) == 20


async def test_many_arrays_are_checked_like_each_by_itself(engine: Engine) -> None:
    columns: dict[str, Any] = {"v": {"type": "vector", "dimensions": 3}}
    await engine.catalog.create(LOCAL, "t", columns)
    good = [{"id": kind, "v": np.array([1, 1, 1], kind)} for kind in ("f4", "f8", "i4", ">f4", "f2")]
    await engine.writer.insert(LOCAL, "t", [*good, {"id": "x", "v": np.array([0.5, 1, 1])}])
    bad = [np.zeros(3, "f4"), np.full(3, np.nan, "f4"), np.full(3, 1e300), np.ones(2, "f4"), np.ones((1, 3))]
    for vector in bad:
        rows = [{"id": f"n{i}", "v": np.ones(3, "f4")} for i in range(600)]
        rows[555]["v"] = vector
        with pytest.raises(InvalidRow, match="row 555, column 'v'") as caught:
            await engine.writer.insert(LOCAL, "t", rows)
        assert caught.value.context["row"] == 555
    assert len(await engine.rows("t")) == 6
