"""One budget of bytes per process: what fits is held, what does not is answered by the backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.engine.searching import LIBRARY, World, opened, opened_backend, searching, small_table
from tests.engine.test_search_sizes import Truth, agrees, filled, made_rows
from vectable.core.schema import Metric
from vectable.engine.resident import Background, ResidentRegistry
from vectable.engine.resident.resident import Resident, ResidentKey
from vectable.interfaces import SchemaChange
from vectable.testing.samples import clustered_vectors, vector_column

MATRIX = clustered_vectors(2_000, 32, seed=8)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_what_does_not_fit_is_answered_by_the_backend(
    kind: str, server: str | None, tmp_path: Path
) -> None:
    async with opened(kind, tmp_path, small_table(32), budget=100_000, server=server) as world:
        await filled(world, MATRIX)
        result = await world.search(MATRIX[0], limit=10)
        assert result.plan.path == "backend"
        assert "MiB" in result.plan.why
        assert result.keys == [k for k, _ in Truth(world, MATRIX).best(MATRIX[0], 10)]
        assert world.registry.held() == 0


async def test_rows_that_outgrow_the_budget_are_given_up(tmp_path: Path) -> None:
    async with opened("memory", tmp_path, small_table(32), budget=120_000) as world:
        await filled(world, MATRIX[:300])
        assert (await world.search(MATRIX[0])).plan.path == "flat"
        await filled(world, MATRIX[300:], 300)
        where = {"column": "bucket", "operator": ">=", "value": 0}
        result = await world.search(MATRIX[0], limit=10, where=where)
        assert result.plan.path == "backend"
        assert result.keys == [k for k, _ in Truth(world, MATRIX).best(MATRIX[0], 10)]


def registered(registry: ResidentRegistry, name: str) -> Resident:
    version = vector_column("emb", 4, Metric.COSINE).version
    key = ResidentKey("db", "table", name, False)
    with registry.use(key, lambda: Resident(key, version, None, True)) as resident:
        return resident


def test_the_version_used_longest_ago_goes_first_and_none_in_use() -> None:
    registry = ResidentRegistry(LIBRARY, 100, Background(0.0))
    a, b, c = (registered(registry, name) for name in "abc")
    assert registry.grant(a, 40)
    assert registry.grant(b, 40)
    with registry.use(a.key, lambda: a):
        assert registry.grant(c, 60)
        assert registry.peek(a.key) is a
        assert registry.peek(b.key) is None
        assert not registry.grant(c, 61)
    assert registry.grant(c, 100)
    assert registry.peek(a.key) is None
    assert not registry.grant(c, 101)
    assert registry.held() == 100


async def test_searchers_of_one_directory_share_what_is_held(tmp_path: Path) -> None:
    async with opened_backend("sqlite", tmp_path) as backend:
        table = small_table(32)
        await backend.alter(table, SchemaChange("create_table"))
        async with searching(backend, table, tmp_path) as first:
            await filled(first, MATRIX)
            await first.search(MATRIX[0])
            held = first.registry.held()
            second = type(first.searcher)(
                "database",
                backend,
                first.registry,
                directory=tmp_path / "indexes",
                pool=first.searcher._pool,
            )
            other = World(backend, table, second, first.registry, mark=first.mark)
            assert (await other.search(MATRIX[0])).plan.path == "flat"
            assert first.registry.held() == held
            await second.close()
            assert first.registry.held() == held
            await first.search(MATRIX[0])
        assert first.registry.held() == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_many_small_writes_between_searches(kind: str, server: str | None, tmp_path: Path) -> None:
    """Each write is seen by the next search, and the delta is merged away in time."""
    async with opened(kind, tmp_path, small_table(32), server=server) as world:
        await filled(world, MATRIX)
        truth = Truth(world, MATRIX)
        rng = np.random.default_rng(1)
        for i in range(150):
            part = rng.integers(0, 1_980)
            truth.matrix = truth.matrix.copy()
            truth.matrix[part : part + 20] = MATRIX[rng.permutation(2_000)[:20]]
            await world.put(made_rows(20, int(part)), truth.matrix[part : part + 20])
            await agrees(world, truth, MATRIX[i], 10, ("10 %", None, "1 %")[i % 3])
        world.settle()
        await agrees(world, truth, MATRIX[7], 100, "10 %")
        resident = next(iter(world.registry._held.values()))
        assert resident.snapshot is not None
        assert resident.snapshot.size < 2_000 + 2_500
