"""A search returns min(limit, matching) hits at every size, whatever the filter, limit, threshold or past."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.searching import World, opened, small_table, unit
from vectable.core.schema import Index, Metric
from vectable.core.vectors import Matrix, scores
from vectable.testing.samples import clustered_vectors, text_key

ROWS = 10_000
MANY = 100_000
FILTERS: dict[str, Any] = {
    "100 %": {"column": "bucket", "operator": ">=", "value": 0},
    "10 %": {"column": "bucket", "operator": "<", "value": 100},
    "1 %": {"column": "bucket", "operator": "<", "value": 10},
    "0.1 %": {"column": "bucket", "operator": "=", "value": 7},
    "none": {"column": "bucket", "operator": "=", "value": -1},
}


def made_rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"id": f"r{i:07d}", "title": f"t{i % 7}", "bucket": i * 7919 % 1_000, "meta": {"stars": i % 5}}
        for i in range(start, start + count)
    ]


async def filled(world: World, matrix: Matrix, start: int = 0) -> None:
    for at in range(0, len(matrix), 10_000):
        part = matrix[at : at + 10_000]
        await world.put(made_rows(len(part), start + at), part)


class Truth:
    """The oracle for many rows, by the core's own formulas."""

    def __init__(self, world: World, matrix: Matrix) -> None:
        self.keys = [text_key(f"r{i:07d}") for i in range(len(matrix))]
        self.buckets = np.arange(len(matrix)) * 7919 % 1_000
        self.matrix, self.metric = matrix, world.version.metric
        self.alive = np.ones(len(matrix), np.bool_)

    def kept(self, name: str | None) -> np.ndarray[Any, np.dtype[np.bool_]]:
        below = {"10 %": 100, "1 %": 10, "none": 0}
        if name is None or name == "100 %":
            return self.alive
        if name == "0.1 %":
            return self.alive & (self.buckets == 7)
        return self.alive & (self.buckets < below[name])

    def best(
        self, vector: Any, k: int, name: str | None = None, threshold: float | None = None
    ) -> list[tuple[bytes, float]]:
        found = scores(vector, self.matrix, self.metric)
        eligible = np.flatnonzero(self.kept(name) & (found >= (-np.inf if threshold is None else threshold)))
        order = eligible[np.lexsort((eligible, -found[eligible]))][:k]
        return [(self.keys[i], float(found[i])) for i in order]


async def agrees(
    world: World, truth: Truth, vector: Any, k: int, name: str | None = None, **more: Any
) -> str:
    """Searches and compares with the truth; the path taken."""
    where = None if name is None else FILTERS[name]
    result = await world.search(vector, limit=k, where=where, **more)
    wanted = truth.best(vector, k, name, more.get("threshold"))
    if result.plan.exact:
        assert list(zip(result.keys, result.scores or (), strict=True)) == wanted, result.plan
    else:
        assert len(result.keys) == len(wanted), result.plan
        assert result.scores == sorted(result.scores or (), reverse=True)
    return result.plan.path


@pytest.fixture(params=list(Metric), ids=lambda m: m.value)
async def ten_thousand(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[World, Matrix]]:
    matrix = clustered_vectors(ROWS, 32, seed=3)
    if request.param is not Metric.COSINE:
        lengths = np.random.default_rng(1).uniform(0.2, 5, (ROWS, 1)).astype(np.float32)
        matrix = np.ascontiguousarray(matrix * lengths)
    async with opened("sqlite", tmp_path, small_table(32, request.param)) as world:
        await filled(world, matrix)
        yield world, matrix


async def test_filters_limits_and_thresholds_at_ten_thousand_rows(
    ten_thousand: tuple[World, Matrix],
) -> None:
    world, matrix = ten_thousand
    truth = Truth(world, matrix)
    for i, name in enumerate([None, *FILTERS]):
        vector = matrix[i * 37] + np.float32(0.01)
        assert await agrees(world, truth, vector, 10, name) in ("flat", "exact-ids", "certified-scan")
        await agrees(world, truth, vector, 1_000, name)
        level = truth.best(vector, 500)[-1][1]
        await agrees(world, truth, vector, 1_000, name, threshold=level)
        counted = await world.searcher.count(
            world.table, world.query(where=name and FILTERS[name], threshold=level), vector=vector
        )
        assert counted == len(truth.best(vector, ROWS, name, level))


async def test_after_deleting_most_rows_and_many_small_writes(ten_thousand: tuple[World, Matrix]) -> None:
    world, matrix = ten_thousand
    truth = Truth(world, matrix)
    assert len((await world.search(matrix[0], limit=10)).keys) == 10
    gone = np.flatnonzero(np.arange(ROWS) % 20 != 3)
    for at in range(0, len(gone), 2_500):
        await world.delete(*(f"r{i:07d}" for i in gone[at : at + 2_500].tolist()))
        truth.alive[gone[at : at + 2_500]] = False
        await agrees(world, truth, matrix[5], 100)
    world.settle()
    await agrees(world, truth, matrix[5], 1_000)
    for i in range(40):
        moved = int(np.flatnonzero(truth.alive)[i])
        truth.matrix = truth.matrix.copy()
        truth.matrix[moved] = matrix[(moved + 1) % ROWS]
        await world.put(made_rows(1, moved), truth.matrix[moved : moved + 1])
        await agrees(world, truth, matrix[moved], 20, "10 %" if i % 2 else None)


async def test_one_row_and_none(tmp_path: Path) -> None:
    async with opened("memory", tmp_path, small_table(8)) as world:
        vector = np.ones(8, np.float32)
        await world.check(vector, limit=10)
        await world.put(made_rows(1), [vector])
        await world.check(vector, limit=10)
        await world.check(vector, limit=10, threshold=0.5, offset=1)
        await world.delete("r0000000")
        await world.check(vector, limit=10)


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
async def test_thousands_of_equal_vectors_go_by_key(kind: str, server: str | None, tmp_path: Path) -> None:
    async with opened(kind, tmp_path, small_table(16), server=server) as world:
        same = np.tile(clustered_vectors(1, 16), (6_000, 1))
        for at in range(0, 6_000, 3_000):
            # The second half lies in the delta: ties must still go by key, not by where a row is kept.
            ids = [{**row, "id": row["id"][::-1]} for row in made_rows(3_000, at)]
            await world.put(ids, same[at : at + 3_000])
            await world.check(same[0], limit=50)
        await world.check(same[0], limit=1_000, where=FILTERS["10 %"])
        await world.check(same[0], limit=10, offset=2_995)


async def test_exact_and_index_none_never_take_an_approximate_path(tmp_path: Path) -> None:
    matrix = clustered_vectors(21_000, 16, seed=5)
    async with opened("memory", tmp_path, small_table(16, index="none")) as world:
        await filled(world, matrix)
        await world.search(matrix[0])
        world.settle()
        result = await world.search(matrix[0], limit=10)
        assert (result.plan.path, result.plan.exact) == ("flat", True)
        assert "without an index" in result.plan.why


@pytest.fixture(scope="module")
def many() -> Matrix:
    return clustered_vectors(MANY, 64, seed=11)


@pytest.mark.slow
async def test_a_hundred_thousand_rows_through_the_fast_scan(tmp_path: Path, many: Matrix) -> None:
    async with opened("sqlite", tmp_path, small_table(64), files=True) as world:
        await filled(world, many)
        truth = Truth(world, many)
        assert await agrees(world, truth, many[0], 10) == "flat"
        world.settle()
        queries = unit(many[::5_000] + np.float32(0.02))
        hits = 0
        for vector in queries:
            assert await agrees(world, truth, vector, 10) == "fast-scan"
            result = await world.search(vector, limit=10)
            hits += len(set(result.keys) & {k for k, _ in truth.best(vector, 10)})
            assert await agrees(world, truth, vector, 10, exact=True) in ("flat", "certified-scan")
        assert hits >= 0.99 * 10 * len(queries)
        assert result.plan.recall is not None
        assert result.plan.recall >= 0.999
        for name in FILTERS:
            await agrees(world, truth, queries[1], 10, name)
            await agrees(world, truth, queries[2], 1_000, name)
        # Fewer rows than asked for pass this threshold: only an exact answer may be that short.
        level = truth.best(queries[3], 5)[-1][1]
        assert await agrees(world, truth, queries[3], 10, threshold=level) in ("flat", "certified-scan")
        await world.delete(*(f"r{i:07d}" for i in range(0, MANY, 2)))
        truth.alive[::2] = False
        await agrees(world, truth, queries[4], 100)
        world.settle()
        await agrees(world, truth, queries[4], 100)
        assert await agrees(world, truth, queries[4], 10) == "fast-scan"


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("hnsw", {"m": 16, "ef_construction": 60}),
        ("ivfflat", {"lists": 64}),
        ("ivfpq", {}),
        ("flat", {}),
    ],
)
async def test_named_indexes_serve_full_pages_and_tell_their_recall(
    tmp_path: Path, method: Any, parameters: dict[str, int]
) -> None:
    matrix = clustered_vectors(22_000, 16, seed=9)
    table = small_table(16)
    column = table.column("emb")
    index = Index(
        name="i", column=column.id, type="vector", method=method, parameters=parameters, version=column.active
    )
    async with opened("sqlite", tmp_path, table, files=True) as world:
        world.table = table.model_copy(update={"indexes": (index,)})
        await filled(world, matrix)
        done: list[tuple[int, int]] = []
        recall = await world.searcher.build_index(world.table, index, lambda a, b: done.append((a, b)))
        status = world.searcher.index_status(world.table, index)
        assert (status.status, status.recall, status.rows_covered) == ("ready", recall, len(matrix))
        assert recall >= 0.8
        truth = Truth(world, matrix)
        path = await agrees(world, truth, matrix[10], 10)
        if method == "flat":
            return
        assert path == "index"
        assert done[-1] == (22_000, 22_000)
        plan = (await world.search(matrix[10])).plan
        assert (plan.index, plan.recall) == (method, recall)
        for name in FILTERS:
            await agrees(world, truth, matrix[20], 10, name)
        await world.put(made_rows(1, 5), [matrix[40]])
        found = await world.search(matrix[40], limit=2)
        assert found.keys == sorted([text_key("r0000005"), text_key("r0000040")])
        world.searcher.drop_index(world.table, index)
        assert world.searcher.index_status(world.table, index).status == "building"
        assert await agrees(world, truth, matrix[10], 10, exact=True) in ("flat", "certified-scan")
