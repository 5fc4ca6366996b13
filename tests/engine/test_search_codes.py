"""The certified scan: exact at every turn, and given up where it proves too little."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from tests.engine.searching import World, opened, small_table
from tests.engine.test_search_sizes import Truth, agrees, filled, made_rows
from vectable.core.schema import Metric
from vectable.core.vectors import Matrix
from vectable.testing.samples import clustered_vectors

ROWS = 6_000
D = 64


@pytest.fixture(params=list(Metric), ids=lambda m: m.value)
async def coded(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[World, Matrix]]:
    matrix = clustered_vectors(ROWS, D, seed=9)
    async with opened("sqlite", tmp_path, small_table(D, request.param)) as world:
        await filled(world, matrix)
        await world.search(matrix[0], limit=1)
        world.settle()
        yield world, matrix


async def test_it_serves_and_equals_the_oracle(coded: tuple[World, Matrix]) -> None:
    world, matrix = coded
    truth = Truth(world, matrix)
    paths = [await agrees(world, truth, matrix[i * 31] + np.float32(0.01), 10) for i in range(40)]
    assert paths.count("certified-scan") >= 30
    for limit in (1, 100):
        await agrees(world, truth, matrix[3], limit)
    level = truth.best(matrix[7], 6)[-1][1]
    assert len((await world.search(matrix[7], limit=50, threshold=level)).keys) == 6
    await agrees(world, truth, matrix[7], 50, threshold=level)


async def test_it_stays_exact_as_rows_come_go_and_change(coded: tuple[World, Matrix]) -> None:
    world, matrix = coded
    truth = Truth(world, matrix.copy())
    for i in range(30):
        gone, moved = 50 + i, 200 + i
        await world.delete(f"r{gone:07d}")
        truth.alive[gone] = False
        truth.matrix[moved] = matrix[(moved * 7 + 1) % ROWS]
        await world.put(made_rows(1, moved), truth.matrix[moved : moved + 1])
        await agrees(world, truth, truth.matrix[moved], 10)
        await agrees(world, truth, matrix[gone], 10)


async def test_ties_are_broken_by_key(tmp_path: Path) -> None:
    few = clustered_vectors(40, D, seed=2)
    matrix = np.ascontiguousarray(np.tile(few, (ROWS // 40, 1)))
    async with opened("sqlite", tmp_path, small_table(D)) as world:
        await filled(world, matrix)
        await world.search(matrix[0], limit=1)
        world.settle()
        truth = Truth(world, matrix)
        for i in range(40):
            # 150 rows are equally good: no ten of them can be proved the best without looking at all.
            assert await agrees(world, truth, matrix[i], 10) == "flat"
        resident = world.searcher._reader.held(world.table, world.version, False)
        assert resident is not None and resident.codes is not None
        assert not resident.codes.worthwhile
        assert resident.codes.tried < 40


async def test_no_codes_where_memory_is_short(tmp_path: Path) -> None:
    wide = 512
    matrix = clustered_vectors(ROWS, wide, seed=4)
    budget = ROWS * (4 * wide + 250)
    async with opened("sqlite", tmp_path, small_table(wide), budget=budget) as world:
        await filled(world, matrix)
        for _ in range(2):
            result = await world.search(matrix[0], limit=10)
            assert result.plan.path == "flat"
            world.settle()
