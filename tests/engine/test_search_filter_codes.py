"""A filter that is asked for again and again is answered from codes of the rows it keeps: exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.engine.searching import World, opened, small_table
from tests.engine.test_search_sizes import Truth, agrees, filled, made_rows
from vectable.core.schema import Metric
from vectable.engine.search.upkeep import FILTER_USES
from vectable.testing.samples import clustered_vectors

ROWS = 45_000
D = 32


async def _asked_again(world: World, truth: Truth, times: int, name: str = "10 %") -> list[str]:
    return [
        await agrees(world, truth, truth.matrix[i * 101] + np.float32(0.01), 10, name) for i in range(times)
    ]


@pytest.mark.parametrize("metric", list(Metric), ids=lambda m: m.value)
async def test_they_serve_exactly_and_follow_the_table(metric: Metric, tmp_path: Path) -> None:
    matrix = clustered_vectors(ROWS, D, seed=12)
    async with opened("sqlite", tmp_path, small_table(D, metric)) as world:
        await filled(world, matrix)
        truth = Truth(world, matrix.copy())
        assert "certified-scan" not in await _asked_again(world, truth, FILTER_USES)
        world.settle()
        assert (await _asked_again(world, truth, 20)).count("certified-scan") >= 15
        result = await world.search(
            matrix[5], limit=10, where={"column": "bucket", "operator": "<", "value": 100}
        )
        assert result.plan.exact and result.plan.rows_matching == result.plan.rows_examined
        for limit in (1, 200):
            await agrees(world, truth, matrix[3], limit, "10 %")
        level = truth.best(matrix[7], 6, "10 %")[-1][1]
        await agrees(world, truth, matrix[7], 50, "10 %", threshold=level)

        # A row that the filter keeps goes, another moves to where it was: neither may be seen as it was.
        gone, moved = (int(i) for i in np.flatnonzero(truth.kept("10 %"))[:2])
        truth.alive[gone] = False
        truth.matrix[moved] = matrix[gone]
        await world.delete(f"r{gone:07d}")
        await world.put(made_rows(1, moved), truth.matrix[moved : moved + 1])
        await agrees(world, truth, matrix[gone], 10, "10 %")
        await _asked_again(world, truth, FILTER_USES)
        world.settle()
        assert await agrees(world, truth, matrix[gone], 10, "10 %") in ("certified-scan", "fast-scan")
        assert "certified-scan" in await _asked_again(world, truth, 10)


@pytest.mark.parametrize("served", [True, False], ids=["room", "no room"])
async def test_they_count_as_memory_and_are_not_made_where_it_is_short(served: bool, tmp_path: Path) -> None:
    matrix = clustered_vectors(ROWS, D, seed=12)
    async with opened("sqlite", tmp_path, small_table(D)) as world:
        await filled(world, matrix)
        truth = Truth(world, matrix)
        await agrees(world, truth, matrix[0], 10, "10 %")
        world.settle()
        resident = world.searcher._reader.held(world.table, world.version, False)
        assert resident is not None
        before = resident.nbytes
        if not served:
            world.searcher._registry.budget = before + ROWS // 10 * D
        await _asked_again(world, truth, FILTER_USES)
        world.settle()
        assert resident.snapshot is not None
        assert resident.snapshot.coded_nbytes == (ROWS // 10 * D if served else 0)
        assert ("certified-scan" in await _asked_again(world, truth, 5)) is served
