"""No index is trusted: what it finds is measured, re-scored, and never makes a page short."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.searching import World, opened, opened_backend, small_table
from tests.engine.test_search_sizes import FILTERS, Truth, agrees, filled
from vectable.core.schema import Index
from vectable.engine.evaluate_recall import SHOULD_FIND, tune
from vectable.engine.resident import Background, ResidentRegistry
from vectable.engine.search import Searcher
from vectable.indexes.faiss import FaissIndex, FaissLibrary
from vectable.interfaces import SchemaChange, VectorIndex
from vectable.testing.samples import clustered_vectors

MATRIX = clustered_vectors(21_000, 16, seed=21)


@dataclass
class Forgetful:
    """A real index that answers with every second of what it found, or with a few rows only."""

    inner: FaissIndex
    few: bool

    kind = property(lambda self: self.inner.kind)
    size = property(lambda self: self.inner.size)
    efforts = property(lambda self: self.inner.efforts)
    notes = property(lambda self: self.inner.notes)
    nbytes = property(lambda self: self.inner.nbytes)

    def search(self, query: Any, k: int, keep: Any = None, parameters: Any = None) -> Any:
        found = self.inner.search(query, k, keep, parameters)
        return found[:3] if self.few else found[::2]

    def save(self, path: str) -> None:
        """Never kept."""


class ForgetfulLibrary(FaissLibrary):
    few = False

    def build(self, *arguments: Any) -> Any:
        return Forgetful(super().build(*arguments), self.few)


@pytest.fixture(params=[False, True], ids=["every second", "few"])
async def forgetful(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    table = small_table(16)
    column = table.column("emb")
    hnsw = Index(name="i", column=column.id, type="vector", method="ivfflat", version=column.active)
    library = ForgetfulLibrary()
    library.few = request.param
    registry = ResidentRegistry(library, background=Background(0.0))
    async with opened_backend("memory", tmp_path) as backend:
        await backend.alter(table, SchemaChange("create_table"))
        with ThreadPoolExecutor(1) as pool:
            searcher = Searcher("db", backend, registry, directory=None, pool=pool)
            world = World(backend, table, searcher, registry)
            await filled(world, MATRIX)
            yield world, hnsw
            await searcher.close()
            registry.close()


async def test_a_fast_scan_that_misses_rows_never_serves(forgetful: tuple[World, Index]) -> None:
    world, _ = forgetful
    truth = Truth(world, MATRIX)
    await agrees(world, truth, MATRIX[0], 10)
    world.settle()
    result = await world.search(MATRIX[0], limit=10)
    assert result.plan.path == "flat"
    assert "does not find enough" in result.plan.why


async def test_a_named_index_that_misses_rows_says_so_and_gives_full_pages(
    forgetful: tuple[World, Index],
) -> None:
    world, index = forgetful
    world.table = world.table.model_copy(update={"indexes": (index,)})
    recall = await world.searcher.build_index(world.table, index, lambda done, total: None)
    assert recall < 0.7
    truth = Truth(world, MATRIX)
    for name in (None, *FILTERS):
        for k in (5, 50):
            await agrees(world, truth, MATRIX[3], k, name)


@pytest.mark.parametrize("kind", ["fast-scan", "hnsw", "ivfflat", "ivfpq"])
def test_recall_is_measured_against_the_truth(kind: str) -> None:
    from vectable.core.mark import Mark
    from vectable.core.schema import Metric
    from vectable.engine.resident.keys import PackedKeys
    from vectable.engine.resident.segment import make_base

    library = FaissLibrary()
    base = make_base(Mark(""), PackedKeys.of([b"%06d" % i for i in range(9_000)]), MATRIX[:9_000].copy(), [])
    index = library.build(kind, base.matrix, base.scale, Metric.COSINE, {}, base.digest)
    good = tune(base, Metric.COSINE, library, index)
    assert good.recall >= (SHOULD_FIND if kind == "fast-scan" else 0.95)
    assert good.filtered >= 0.9
    half: VectorIndex = Forgetful(index, False)
    assert tune(base, Metric.COSINE, library, half).recall < 0.75
    # Recall as reported is recall as found, by other means.
    rng = np.random.default_rng(5)
    hits = 0
    for row in MATRIX[rng.choice(9_000, 40)]:
        query = row + np.float32(0.005) * rng.standard_normal(16).astype(np.float32)
        truth = set(np.argsort(-(base.matrix @ query))[:10].tolist())
        found = index.search(query, good.candidates, None, {"effort": good.effort})
        hits += len(truth & set(found.tolist()))
    assert abs(hits / 400 - good.recall) < 0.05


async def test_odd_dimensions_are_searched_exactly_at_any_size(tmp_path: Path) -> None:
    matrix = clustered_vectors(20_500, 7, seed=1)
    async with opened("memory", tmp_path, small_table(7)) as world:
        await filled(world, matrix)
        truth = Truth(world, matrix)
        await agrees(world, truth, matrix[0], 10)
        world.settle()
        assert await agrees(world, truth, matrix[0], 10) in ("flat", "certified-scan")
        assert "even number" in (await world.search(matrix[0])).plan.why
