"""Searches by indexes that PostgreSQL builds: as many hits as match, rightly scored, exact or of measured
recall, under any filter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import numpy as np
import pytest

import vectable
from tests.waiting import LIMIT_S
from vectable import AsyncDatabase, AsyncTable
from vectable.core.schema import Metric
from vectable.core.vectors import Matrix, Vector, scores
from vectable.drivers.postgres import Address
from vectable.errors import InvalidInput
from vectable.testing.samples import clustered_vectors

ROWS, DIMENSIONS = 6_000, 16
ASKED = [*((10, below) for below in (1_000, 500, 100, 10, 1)), (1_000, 1_000), (1_000, 500)]
"""Limits, and how many of 1,000 buckets the filter keeps."""


@dataclass
class World:
    """A table that is not held in memory, and what every search of it must answer."""

    db: AsyncDatabase
    table: AsyncTable
    plain: asyncpg.Connection
    matrix: Matrix
    metric: Metric
    gone: set[int]

    def truth(self, query: Vector, threshold: float | None, below: int) -> list[tuple[str, float]]:
        """(id, score) of every match, best first."""
        found = scores(query, self.matrix, self.metric).tolist()
        ranked = sorted((-score, f"{i:05d}", i) for i, score in enumerate(found))
        return [
            (key, -least)
            for least, key, i in ranked
            if i not in self.gone and bucket(i) < below and (threshold is None or -least >= threshold)
        ]


def bucket(i: int) -> int:
    """Each of 1,000 numbers as often as the others, and none by the order of rows."""
    return i * 7_919 % 1_000


def queries(world: World) -> Matrix:
    """Vectors beside those of some rows."""
    offset = np.random.default_rng(9).standard_normal((3, DIMENSIONS)) * 0.05
    return (world.matrix[[17, 3_003, 5_777]] + offset).astype(np.float32)


@pytest.fixture
async def plain(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of somebody else's."""
    connection = await asyncpg.connect(**Address.parse(postgres_url).arguments)
    yield connection
    await connection.close()


@pytest.fixture
async def db(postgres_url: str) -> AsyncIterator[AsyncDatabase]:
    async with await vectable.connect_async(postgres_url, resident_bytes=0) as opened:
        yield opened


async def world(
    db: AsyncDatabase, plain: asyncpg.Connection, metric: Metric = Metric.COSINE, rows: int = ROWS
) -> World:
    matrix = clustered_vectors(rows, DIMENSIONS, clusters=40, seed=1)
    if metric is not Metric.COSINE:
        lengths = np.random.default_rng(2).uniform(0.5, 2, (rows, 1))
        matrix = (matrix * lengths).astype(np.float32)
    matrix[1_000:1_200] = matrix[3_000:3_200]
    column = {"type": "vector", "dimensions": DIMENSIONS, "metric": metric.value}
    table = await db.create_table("t", {"bucket": "int", "emb": column})
    await table.insert([{"id": f"{i:05d}", "bucket": bucket(i), "emb": matrix[i]} for i in range(rows)])
    return World(db, table, plain, matrix, metric, set())


async def check(world: World, query: Vector, limit: int, below: int = 1_000, least: float = 0.9) -> Any:
    """A search that has as many hits as match, its scores and order right; its plan."""
    table = world.table
    asked = table.similar(query, on="emb").limit(limit)
    if below < 1_000:
        asked = table.where(table.bucket < below).similar(query, on="emb").limit(limit)
    found = await asked.collect()
    truth = world.truth(query, None, below)
    assert len(found) == min(limit, len(truth))
    known = dict(truth)
    hits = [(row["id"], score) for row, score in zip(found, found.scores, strict=True)]
    assert all(known[key] == score for key, score in hits)
    assert hits == sorted(hits, key=lambda hit: (-hit[1], hit[0]))
    if found.plan.exact:
        assert hits == truth[: len(hits)]
    else:
        # By score: of copies, one is as good as the other.
        bound = truth[len(hits) - 1][1]
        assert sum(score >= bound for _, score in hits) >= least * len(hits)
    return found.plan


@pytest.mark.parametrize(
    ("kind", "metric", "parameters"),
    [
        ("hnsw", Metric.COSINE, {"m": 16, "ef_construction": 64}),
        ("hnsw", Metric.INNER_PRODUCT, {"quantization": "halfvec"}),
        ("hnsw", Metric.EUCLIDEAN, {}),
        ("ivfflat", Metric.COSINE, {"lists": 20, "quantization": "halfvec"}),
    ],
)
async def test_every_search_has_as_many_hits_as_match(
    db: AsyncDatabase, plain: asyncpg.Connection, kind: str, metric: Metric, parameters: dict[str, Any]
) -> None:
    w = await world(db, plain, metric)
    made = await w.table.create_index("emb", kind, **parameters)
    assert made["status"] == "ready"
    assert made["recall"] >= 0.95
    assert made["rows_covered"] == ROWS
    paths: dict[tuple[int, int], set[str]] = {}
    for query in queries(w):
        for limit, below in ASKED:
            plan = await check(w, query, limit, below)
            assert plan.exact == (plan.path == "backend")
            assert (plan.recall is None) == plan.exact
            paths.setdefault((limit, below), set()).add(plan.path)
    assert paths[10, 1_000] == paths[10, 500] == {"backend-index"}
    for below in (100, 10, 1):
        assert paths[10, below] == {"backend"}


async def test_bits_nominate_and_vectors_decide(db: AsyncDatabase, plain: asyncpg.Connection) -> None:
    w = await world(db, plain)
    made = await w.table.create_index("emb", "hnsw", quantization="binary", wait=False)
    job = next(j for j in await db.jobs() if j.kind == "index")
    assert (await db.engine.jobs.wait(job.id)).status in ("done", "error")
    (made,) = await w.table.indexes()
    # 16 bits tell little: whatever was measured, no search has fewer hits than match.
    for query in queries(w):
        plan = await check(w, query, 10)
        assert plan.exact or made["recall"] >= 0.9


async def test_thresholds_pages_deletes_and_new_rows(db: AsyncDatabase, plain: asyncpg.Connection) -> None:
    w = await world(db, plain)
    await w.table.create_index("emb", "hnsw")
    query = w.matrix[3_050]
    truth = w.truth(query, 0.9, 1_000)
    found = await w.table.similar(query, on="emb", threshold=0.9).limit(1_000).collect()
    assert [row["id"] for row in found] == [key for key, _ in truth[:1_000]]
    assert found.plan.exact  # fewer than the limit: whether there are more is found out exactly
    assert "fewer hits than may exist" in " ".join(found.plan.fallbacks)
    few = await w.table.similar(query, on="emb", threshold=0.9).limit(5).collect()
    assert few.plan.path == "backend-index"
    assert set(few.scores) <= {score for _, score in truth}
    asked = w.table.similar(query, on="emb").limit(7)
    page = await asked.collect()
    after = await asked.cursor(page.next_cursor).collect()
    assert after.plan.exact
    assert [row["id"] for row in after] == [key for key, _ in w.truth(query, None, 1_000)[7:14]]
    # Copies tie: the lesser key comes first.
    assert [row["id"] for row in page][:2] == ["01050", "03050"]
    w.gone = {int(row["id"]) for row in page}
    await w.table.delete({"column": "id", "operator": "in", "value": [row["id"] for row in page]})
    await check(w, query, 10)
    w.gone.remove(3_050)
    await w.table.insert([{"id": "03050", "bucket": bucket(3_050), "emb": w.matrix[3_050]}])
    assert (await w.table.similar(query, on="emb").limit(1).collect())[0]["id"] == "03050"


async def test_the_plan_tells_why_and_what_the_server_says(
    db: AsyncDatabase, plain: asyncpg.Connection
) -> None:
    w = await world(db, plain)
    query = w.matrix[5]
    asked = w.table.similar(query, on="emb").limit(10)
    plan = await asked.explain(backend_plan=True)
    assert plan.path == "backend"
    assert "no index in the database is ready" in plan.why
    assert "Sort" in (plan.backend_plan or "")
    await w.table.create_index("emb", "hnsw", name="graph")
    plan = await asked.explain(backend_plan=True)
    assert plan.path == "backend-index"
    assert plan.index == "hnsw"
    assert plan.recall is not None
    assert "Index Scan using i_" in (plan.backend_plan or "")
    assert str(query[0]) not in (plan.backend_plan or "")
    assert (await asked.explain()).backend_plan is None
    exact = await w.table.similar(query, on="emb", exact=True).limit(10).explain(backend_plan=True)
    assert exact.exact
    assert "Index Scan using i_" not in (exact.backend_plan or "")
    few = await w.table.where(w.table.bucket < 10).similar(query, on="emb").limit(10).explain()
    assert "keeps few rows" in few.why
    assert few.rows_matching == sum(bucket(i) < 10 for i in range(ROWS))
    await w.table.drop_index("graph")
    assert (await asked.explain()).path == "backend"
    assert await left(plain) == []


async def left(plain: asyncpg.Connection) -> list[tuple[str, bool]]:
    """Vector indexes of ours in the database, and whether they are valid."""
    found = await plain.fetch(
        "SELECT i.relname, x.indisvalid FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid"
        " WHERE i.relname ~ '^i_' ORDER BY i.relname"
    )
    return [(name, valid) for name, valid in found]


async def test_an_index_made_before_its_rows_serves_once_they_are_there(
    db: AsyncDatabase, plain: asyncpg.Connection
) -> None:
    column = {"type": "vector", "dimensions": DIMENSIONS}
    table = await db.create_table("t", {"bucket": "int", "emb": column})
    made = await table.create_index("emb", "hnsw")
    assert (made["status"], made["rows_covered"]) == ("ready", 0)
    matrix = clustered_vectors(ROWS, DIMENSIONS, clusters=40, seed=1)
    await table.insert([{"id": f"{i:05d}", "bucket": 1, "emb": v} for i, v in enumerate(matrix)])
    asked = table.similar(matrix[3], on="emb").limit(10)
    assert (await asked.explain()).exact
    async with asyncio.timeout(LIMIT_S):
        while (await asked.explain()).path != "backend-index":
            await asyncio.sleep(0.05)
    (made,) = await table.indexes()
    assert made["rows_covered"] == ROWS


@pytest.mark.parametrize("how", ["terminated", "invalid", "dropped", "cancelled"])
async def test_a_build_that_is_interrupted_is_cleaned_up(
    db: AsyncDatabase, plain: asyncpg.Connection, how: str
) -> None:
    w = await world(db, plain)
    (cells,) = await plain.fetchrow(
        "SELECT format('vectable.%I', relname) FROM pg_class WHERE relname ~ '^v_' AND relkind = 'r'"
    )
    # Whoever writes keeps the build waiting, which is told as its progress.
    writer = plain.transaction()
    await writer.start()
    await plain.execute(f"LOCK TABLE {cells} IN ROW EXCLUSIVE MODE")
    await w.table.create_index("emb", "hnsw", wait=False)
    (job,) = [j for j in await db.jobs() if j.kind == "index"]
    watcher = await asyncpg.connect(**db.engine.backend._driver.address.arguments)
    try:
        async with asyncio.timeout(LIMIT_S):
            while True:
                found = await watcher.fetchrow("SELECT pid, phase FROM pg_stat_progress_create_index")
                if found is not None and found["phase"].startswith("waiting for writers"):
                    break
                await asyncio.sleep(0.05)
        (index,) = await w.table.indexes()
        assert index["status"] == "building"
        assert index["total"] == ROWS
        # Nothing waits for the build: rows are written and found.
        await w.table.insert([{"id": "new", "bucket": 1, "emb": w.matrix[7]}])
        assert len(await w.table.similar(w.matrix[7], on="emb").limit(3).collect()) == 3
        ending = asyncio.ensure_future(asyncio.sleep(0))
        if how == "terminated":
            await watcher.execute("SELECT pg_terminate_backend($1)", found["pid"])
        elif how == "invalid":
            await watcher.execute("SELECT pg_cancel_backend($1)", found["pid"])
        elif how == "dropped":
            ending = asyncio.ensure_future(w.table.drop_index(index["name"]))
        else:
            ending = asyncio.ensure_future(db.cancel_job(job.id))
        async with asyncio.timeout(LIMIT_S):
            while await watcher.fetchval(
                "SELECT count(*) FROM pg_stat_progress_create_index WHERE pid = $1", found["pid"]
            ):
                await asyncio.sleep(0.05)
    finally:
        await watcher.close()
        await writer.rollback()
    await ending
    ended = await db.engine.jobs.wait(job.id, LIMIT_S)
    if how == "terminated":
        assert ended.status == "done"
        assert [valid for _, valid in await left(plain)] == [True]
        assert (await check(w, w.matrix[9], 1)).path == "backend-index"
        return
    async with asyncio.timeout(LIMIT_S):
        while await left(plain):
            await asyncio.sleep(0.05)
    assert ended.status == {"invalid": "error", "dropped": "done", "cancelled": "cancelled"}[how]


async def test_what_cannot_be_built_is_refused(db: AsyncDatabase) -> None:
    wide = {"type": "vector", "dimensions": 3_000}
    table = await db.create_table("t", {"emb": {"type": "vector", "dimensions": 8}, "wide": wide})
    for method, parameters in [
        ("hnsw", {"m": 1}),
        ("hnsw", {"m": 16, "ef_construction": 20}),
        ("hnsw", {"lists": 5}),
        ("hnsw", {"quantization": "int4"}),
        ("hnsw", {"m": True}),
        ("ivfflat", {"lists": 0}),
    ]:
        with pytest.raises(InvalidInput) as caught:
            await table.create_index("emb", method, **parameters)
        assert caught.value.hint
    with pytest.raises(InvalidInput, match="2,000 dimensions"):
        await table.create_index("wide", "hnsw", quantization="none")
    made = await table.create_index("wide", "hnsw")
    assert made["parameters"]["quantization"] == "halfvec"
