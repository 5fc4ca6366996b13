"""Pages: cursors of plain and similarity queries, streams, selections, orders, and what is refused."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.engine.searching import BACKENDS, World, opened, small_table
from vectable.core.context import Context
from vectable.core.predicate import Clause
from vectable.engine.resident import DEFAULT_BUDGET
from vectable.engine.search.cursor import Place, decode_cursor, encode_cursor
from vectable.errors import (
    BackendTimeout,
    CursorExpired,
    InvalidCursor,
    InvalidFilter,
    InvalidInput,
    UnknownColumn,
)
from vectable.testing.samples import MOMENT_EDGES, clustered_vectors, text_key

COUNT = 60
VECTORS = clustered_vectors(COUNT, 8, seed=2)


def made_rows() -> list[dict[str, Any]]:
    return [
        {
            "id": f"r{i:03d}",
            "title": f"t{i % 4}",
            "bucket": None if i % 5 == 0 else i % 7,
            "meta": {"stars": i} if i % 2 else None,
        }
        for i in range(COUNT)
    ]


@pytest.fixture(params=BACKENDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[DEFAULT_BUDGET, 0], ids=["resident", "backend"])
async def world(
    request: pytest.FixtureRequest, kind: str, server: str | None, tmp_path: Path
) -> AsyncIterator[World]:
    async with opened(kind, tmp_path, small_table(8), budget=request.param, server=server) as world:
        given = [None if i % 9 == 0 else v for i, v in enumerate(VECTORS)]
        await world.put(made_rows(), given)
        yield world


async def paged(world: World, vector: Any, limit: int, **options: Any) -> list[bytes]:
    keys: list[bytes] = []
    cursor: str | None = None
    for _ in range(COUNT):
        result = await world.search(vector, limit=limit, cursor=cursor, **options)
        assert len(result.keys) <= limit
        assert result.keys or cursor is None, "the page before said that another follows"
        keys += result.keys
        cursor = result.next_cursor
        if cursor is None:
            return keys
        assert len(result.keys) == limit
        assert len(cursor) < 4_000
    raise AssertionError("the pages do not end")


ORDERS = [(), "title", "-bucket", ("title", "-bucket"), ("-title", "id")]


@pytest.mark.parametrize("order", ORDERS, ids=str)
async def test_pages_of_a_plain_query_join_to_the_whole(world: World, order: Any) -> None:
    for where in (None, {"column": "bucket", "operator": "!=", "value": 3}):
        whole = [k for k, _ in world.expected(None, order_by=order, where=where)]
        for limit in (1, 7, 60, 100):
            assert await paged(world, None, limit, order_by=order, where=where) == whole


@pytest.mark.parametrize("order", [(), "score", "-bucket", ("title", "-score")], ids=str)
async def test_pages_of_a_similarity_query_join_to_the_whole(world: World, order: Any) -> None:
    vector = VECTORS[3]
    if world.backend.capabilities.snapshot == "none":
        # Its changes repeat, so nobody can tell that nothing has changed: a cursor must not guess.
        with pytest.raises(CursorExpired):
            await paged(world, vector, 9, order_by=order)
        return
    for more in ({}, {"threshold": 0.2}, {"where": {"column": "title", "operator": "=", "value": "t1"}}):
        whole = [k for k, _ in world.expected(vector, order_by=order, **more)]
        # A full page may be the last one, and says so.
        for limit in (1, 9, 60, len(whole)):
            assert await paged(world, vector, limit, order_by=order, **more) == whole


async def test_a_similarity_cursor_expires_when_the_table_changes(world: World) -> None:
    cursor = (await world.search(VECTORS[3], limit=5)).next_cursor
    await world.put([{"id": "new"}], [VECTORS[3]])
    with pytest.raises(CursorExpired, match="changed"):
        await world.search(VECTORS[3], limit=5, cursor=cursor)


async def test_a_plain_cursor_survives_writes(world: World) -> None:
    first = await world.search(None, limit=10, order_by="title")
    await world.delete("r004", "r001")
    second = await world.search(None, limit=10, order_by="title", cursor=first.next_cursor)
    whole = [k for k, _ in world.expected(None, order_by="title")]
    behind = [k for k in whole if k not in first.keys]
    assert second.keys == behind[:10]


async def test_cursors_stay_short_where_texts_are_long(world: World) -> None:
    rows = [{"id": f"long{i}", "title": "x" * 5_000 + str(i // 2)} for i in range(6)]
    await world.put(rows, [VECTORS[i] for i in range(6)])
    where = {"column": "title", "operator": "like", "value": "xx%"}
    whole = [k for k, _ in world.expected(None, order_by="-title", where=where)]
    assert await paged(world, None, 1, order_by="-title", where=where) == whole
    first = await world.search(None, order_by="-title", limit=1, where=where)
    await world.put([{"id": "long4", "title": "xx another"}], [VECTORS[4]])
    with pytest.raises(CursorExpired):
        await world.search(None, order_by="-title", limit=1, where=where, cursor=first.next_cursor)


async def test_cursors_of_other_queries_and_damaged_ones_are_refused(world: World) -> None:
    cursor = (await world.search(None, limit=5, order_by="title")).next_cursor or ""
    similar = (await world.search(VECTORS[3], limit=5)).next_cursor or ""
    for bad in (cursor[:-3], cursor[3:], "é", "A" * 50, cursor + "AAAA", "-", similar):
        with pytest.raises(InvalidCursor):
            await world.search(None, limit=5, order_by="title", cursor=bad)
    for options in ({"order_by": "-title"}, {"where": {"column": "bucket", "operator": "=", "value": 1}}):
        with pytest.raises(InvalidCursor, match="another query"):
            await world.search(None, limit=5, cursor=cursor, **{"order_by": "title", **options})
    with pytest.raises(InvalidCursor):
        await world.search(VECTORS[4], limit=5, cursor=similar)


async def test_streams_give_every_row_once_in_order(world: World) -> None:
    for vector, order in ((None, "-bucket"), (None, ()), (VECTORS[5], ()), (VECTORS[5], ("bucket",))):
        for options in ({}, {"where": {"column": "bucket", "operator": "is not null"}}, {"limit": 13}):
            query = world.query(similar=vector is not None, order_by=order, **options)
            pages = [
                page
                async for page in world.searcher.stream(
                    world.table, query, vector=vector, at_least=world.mark, page=7
                )
            ]
            wanted = world.expected(vector, order_by=order, **{"limit": COUNT, **options})
            assert [k for page in pages for k in page.keys] == [k for k, _ in wanted]
            assert [row["id"] for page in pages for row in page.rows] == [
                world.rows[k][0]["id"] for k, _ in wanted
            ]
            if vector is not None:
                assert [s for page in pages for s in page.scores or ()] == [s for _, s in wanted]


async def test_counts(world: World) -> None:
    where = {"column": "bucket", "operator": "<", "value": 4}
    for vector, more in ((None, {}), (VECTORS[0], {}), (VECTORS[0], {"threshold": 0.3})):
        query = world.query(similar=vector is not None, where=where, limit=1, **more)
        counted = await world.searcher.count(world.table, query, vector=vector, at_least=world.mark)
        assert counted == len(world.matching(vector, where, more.get("threshold")))


async def test_what_is_selected(world: World) -> None:
    select = ("title", "emb", "emb.state", "meta.stars", "meta.none", "id")
    for vector in (None, VECTORS[4]):
        result = await world.search(vector, select=select, limit=COUNT)
        assert len(result) > 0
        for key, row in zip(result.keys, result.rows, strict=True):
            values, cell = world.rows[key]
            assert list(row) == list(select)
            assert (row["title"], row["id"], row["emb.state"]) == (values["title"], values["id"], cell.state)
            assert row["meta.stars"] == (values["meta"] or {}).get("stars")
            assert row["meta.none"] is None
            if cell.vector is None:
                assert row["emb"] is None
            else:
                assert row["emb"].dtype == np.float32
                assert row["emb"].tobytes() == cell.vector
    result = await world.search(None, select=("*", "emb.state"), limit=1)
    assert list(result.rows[0]) == ["id", "title", "bucket", "meta", "emb.state"]


async def test_the_scope_of_the_caller_is_anded_into_every_read(world: World) -> None:
    scope = Clause(column="title", operator="=", value="t2")
    context = Context(scope=scope)
    for vector in (None, VECTORS[1]):
        result = await world.search(vector, context, limit=COUNT)
        assert {row["title"] for row in result.rows} == {"t2"}
        query = world.query(similar=vector is not None)
        counted = await world.searcher.count(world.table, query, context, vector=vector, at_least=world.mark)
        assert counted == len(result)


async def test_what_cannot_be_asked_is_refused_with_a_hint(world: World) -> None:
    vector = VECTORS[0]
    with pytest.raises(UnknownColumn, match="did you mean 'title'"):
        await world.search(None, select=("titel",))
    with pytest.raises(InvalidInput, match="similar"):
        await world.search(None, order_by="score")
    with pytest.raises(InvalidInput, match="ordered by 'meta"):
        await world.search(vector, order_by="meta.stars")
    with pytest.raises(InvalidInput, match="at most 10000"):
        await world.search(vector, limit=9_999, offset=2)
    with pytest.raises(InvalidInput, match="excludes an offset"):
        await world.search(None, cursor="x", offset=1)
    with pytest.raises(InvalidFilter):
        await world.search(vector, where={"column": "bucket", "operator": "like", "value": "x"})
    with pytest.raises(InvalidInput, match="shape"):
        await world.search(np.ones(3, np.float32))
    with pytest.raises(BackendTimeout):
        await world.search(vector, Context(deadline=time.monotonic() - 1))


async def test_plans_tell_what_was_done(world: World) -> None:
    where = [
        {"column": "bucket", "operator": "<", "value": 3},
        {"column": "title", "operator": "ilike", "value": "T_"},
    ]
    plan = (await world.search(VECTORS[2], where=where, limit=5)).plan
    assert plan.exact
    assert plan.path in ("exact-ids", "flat", "backend")
    assert (plan.column, plan.metric, plan.rows_total) == ("emb", "cosine", COUNT)
    assert plan.why
    assert plan.times_ms["total"] >= plan.times_ms["search"] >= 0
    if plan.path != "backend":
        assert plan.rows_matching == len(world.matching(VECTORS[2], where))
    elif world.registry.budget == 0:
        assert "held in memory" in plan.why
    plain = (await world.search(None, where=where)).plan
    assert (plain.path, plain.exact) == ("scan", True)
    assert plain.filter_pushed


@pytest.mark.parametrize(
    "values",
    [(), (None,), ("é\n", 1.5, -(2**63), True), (*MOMENT_EDGES, float("1e-320"), 0.1)],
    ids=["none", "null", "kinds", "edges"],
)
def test_cursors_keep_every_kind_of_value(values: tuple[Any, ...]) -> None:
    place = Place(values, text_key("a/ü"), "mark", "version")
    read = decode_cursor(encode_cursor(place, "query"), "query", len(values))
    assert read == place
    assert [type(v) for v in read.values] == [type(v) for v in values]


async def test_a_deadline_ends_a_long_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: 0.0 if next(looks) < 3 else 100.0)
    async with opened("memory", tmp_path, small_table(8), budget=0) as world:
        await world.put([{"id": f"r{i}", "title": "x" * 50} for i in range(5_000)])
        where = {"column": "title", "operator": "like", "value": "%x%"}
        monkeypatch.setattr("vectable.core.context.time", clock)
        with pytest.raises(BackendTimeout):
            await world.search(None, Context(deadline=50.0), where=where, limit=5_000)
        assert next(looks) == 4, "it was in time three times, then not"
