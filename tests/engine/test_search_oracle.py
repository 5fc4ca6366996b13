"""Every search equals the plain-Python oracle: whatever the backend, in memory or not, ties included."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.searching import BACKENDS, World, opened, small_table
from vectable.core.schema import Metric
from vectable.core.vectors import Vector
from vectable.engine.resident import DEFAULT_BUDGET
from vectable.testing.samples import every_type_table, vector_column
from vectable.testing.strategies import predicates, rows

# Few distinct components make ties, exact and within a rounding error.
COMPONENT = st.sampled_from([-1.0, -0.1, 0.0, 0.1, 0.3, 0.30000001, 1.0, 3.0])
EXTREME = st.sampled_from([1e-38, -1e-20, 1e19, 3e38, 1.0, 0.0])


def vectors(component: st.SearchStrategy[float], dimensions: int = 4) -> st.SearchStrategy[Vector]:
    made = st.lists(component, min_size=dimensions, max_size=dimensions)
    return made.map(lambda c: np.array(c, np.float32)).filter(lambda v: bool(v.any()))


@st.composite
def steps(draw: st.DrawFn, component: st.SearchStrategy[float]) -> list[tuple[Any, ...]]:
    """Writes and searches, in any order, on a table of a few rows."""
    ids = st.sampled_from([f"r{i}" for i in range(12)])
    bucket = st.one_of(st.none(), st.integers(0, 3))
    row = st.tuples(ids, st.one_of(st.none(), vectors(component)), bucket)
    put = st.tuples(st.just("put"), st.lists(row, min_size=1, max_size=8, unique_by=lambda r: r[0]))
    delete = st.tuples(st.just("delete"), st.lists(ids, min_size=1, max_size=3, unique=True))
    options = st.fixed_dictionaries(
        {"limit": st.integers(0, 15)},
        optional={
            "offset": st.integers(0, 4),
            "threshold": st.sampled_from([-2.0, 0.0, 0.3, 0.5, 0.999, 1.0]),
            "exact": st.booleans(),
            "where": st.sampled_from(
                [
                    None,
                    {"column": "bucket", "operator": "=", "value": 1},
                    {"column": "bucket", "operator": "is null"},
                    {"column": "emb.state", "operator": "!=", "value": "ready"},
                    [
                        {"column": "emb", "operator": "is not null"},
                        {"column": "bucket", "operator": "<", "value": 2},
                    ],
                ]
            ),
            "order_by": st.sampled_from(
                [
                    "-score",
                    "score",
                    "-bucket",
                    ("bucket", "-score"),
                    ("-score", "-bucket"),
                    ("title", "-bucket"),
                ]
            ),
        },
    )
    search = st.tuples(st.just("search"), vectors(component), options)
    return draw(st.lists(st.one_of(put, search, search, delete), min_size=1, max_size=10))


async def play(world: World, script: list[tuple[Any, ...]]) -> None:
    for step in script:
        if step[0] == "put":
            rows = [{"id": key, "title": key[:1], "bucket": bucket} for key, _, bucket in step[1]]
            await world.put(rows, [vector for _, vector, _ in step[1]])
        elif step[0] == "delete":
            await world.delete(*step[1])
        else:
            await world.check(step[1], **step[2])


# What an example makes in the server's database is gone before the next one.
in_one_database = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def run(
    kind: str, budget: int, metric: Metric, script: list[tuple[Any, ...]], server: str | None = None
) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as directory:
            table = small_table(4, metric)
            async with opened(kind, Path(directory), table, budget=budget, server=server) as world:
                await play(world, script)

    asyncio.run(main())


@pytest.mark.parametrize("budget", [DEFAULT_BUDGET, 0], ids=["resident", "backend"])
@pytest.mark.parametrize("kind", BACKENDS)
@in_one_database
@given(metric=st.sampled_from(list(Metric)), script=steps(COMPONENT))
def test_searches_equal_the_oracle(
    kind: str, server: str | None, budget: int, metric: Metric, script: list[tuple[Any, ...]]
) -> None:
    run(kind, budget, metric, script, server)


@given(metric=st.sampled_from(list(Metric)), script=steps(EXTREME))
def test_components_at_the_edge_of_float32(metric: Metric, script: list[tuple[Any, ...]]) -> None:
    run("memory", DEFAULT_BUDGET, metric, script)


TYPES = every_type_table(vector_column("emb", 4))


@pytest.mark.parametrize("kind", BACKENDS)
@in_one_database
@given(stored=rows(), where=predicates(TYPES), data=st.data())
def test_filters_mean_the_same_in_memory_and_out_of_it(
    kind: str, server: str | None, stored: list[dict[str, Any]], where: Any, data: st.DataObject
) -> None:
    stored = [{**row, "id": f"{i}{row['id'][:50]}"} for i, row in enumerate(stored)]
    given = [data.draw(st.one_of(st.none(), vectors(COMPONENT))) for _ in stored]
    query = data.draw(vectors(COMPONENT))

    async def main() -> None:
        with tempfile.TemporaryDirectory() as directory:
            async with opened(kind, Path(directory), TYPES, server=server) as world:
                half = len(stored) // 2
                await world.put(stored[:half], given[:half])
                first = await world.search(query, where=where)
                assert first.keys == [k for k, _ in world.expected(query, where=where)]
                await world.put(stored[half:], given[half:])
                found = await world.search(query, where=where)
                assert found.keys == [k for k, _ in world.expected(query, where=where)]
                plain = await world.search(None, where=where)
                assert plain.keys == [k for k, _ in world.expected(None, where=where)]
                counted = await world.searcher.count(
                    TYPES, world.query(where=where), vector=query, at_least=world.mark
                )
                assert counted == len(world.matching(query, where))

    asyncio.run(main())
