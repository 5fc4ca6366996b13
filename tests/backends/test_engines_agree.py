"""The same tables, filters and searches give the same rows, scores and order on memory, SQLite and
PostgreSQL, with vectors in memory and without: all are asked the same, and compared with each other."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.engine.searching import World, opened
from tests.engine.test_search_oracle import COMPONENT, EXTREME, vectors
from vectable.core.schema import ORDERED_TYPES, Metric, Table
from vectable.core.vectors import Vector
from vectable.engine.resident import DEFAULT_BUDGET
from vectable.engine.search import SearchResult
from vectable.testing.samples import every_type_table, vector_column
from vectable.testing.strategies import IDS, VALUES, predicates

ENGINES = [(kind, budget) for kind in ("memory", "sqlite", "postgres") for budget in (DEFAULT_BUDGET, 0)]


def typed_table(metric: Metric) -> Table:
    return every_type_table(vector_column("emb", 4, metric))


TABLE = typed_table(Metric.COSINE)
ORDERS = [c.name for c in TABLE.stored_columns if c.type in ORDERED_TYPES]

WHERE = st.one_of(st.none(), predicates(TABLE))


@dataclass
class Task:
    """What is asked, of a table of every type: writes in two halves, and queries after each."""

    metric: Metric
    rows: list[dict[str, Any]]
    vectors: list[Vector | None]
    gone: list[str]
    queries: list[tuple[Vector | None, dict[str, Any]]] = field(default_factory=list)


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    component = draw(st.sampled_from([COMPONENT, COMPONENT, EXTREME]))
    row = st.fixed_dictionaries(
        {"id": IDS, **{name: st.one_of(st.none(), values) for name, values in VALUES.items()}}
    )
    rows = draw(st.lists(row, min_size=1, max_size=10, unique_by=lambda found: found["id"]))
    given = [draw(st.one_of(st.none(), vectors(component), vectors(component))) for _ in rows]
    gone = draw(st.lists(st.sampled_from([r["id"] for r in rows]), max_size=2, unique=True))
    queries = [draw(asked(component)) for _ in range(draw(st.integers(2, 4)))]
    return Task(draw(st.sampled_from(list(Metric))), rows, given, gone, queries)


@st.composite
def asked(draw: st.DrawFn, component: st.SearchStrategy[float]) -> tuple[Vector | None, dict[str, Any]]:
    vector = draw(st.one_of(st.none(), vectors(component), vectors(component)))
    terms = st.lists(st.sampled_from(ORDERS), max_size=2, unique=True)
    signed = [draw(st.sampled_from(["", "-"])) + name for name in draw(terms)]
    if vector is not None and draw(st.booleans()):
        signed.append("-score")
    options: dict[str, Any] = {"where": draw(WHERE)}
    options |= {"limit": draw(st.integers(1, 12)), "order_by": tuple(signed)}
    if vector is not None:
        options["exact"] = draw(st.booleans())
        if draw(st.booleans()):
            options["threshold"] = draw(st.sampled_from([-2.0, 0.0, 0.3, 0.5, 0.999, 1.0]))
    return vector, options


def told(result: SearchResult) -> tuple[Any, ...]:
    """Everything of an answer that is promised; the plan, which tells the ways apart, is not."""
    return result.keys, result.scores, [_exact(r) for r in result.rows], result.coverage


def _exact(value: Any) -> Any:
    """Equal only for the same type: 1, 1.0 and True are three values."""
    if isinstance(value, dict):
        return {k: _exact(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(v) for v in value]
    return (type(value), value.tobytes() if isinstance(value, np.ndarray) else value)


async def answers(world: World, task: Task) -> list[Any]:
    found: list[Any] = []
    half = len(task.rows) // 2
    for part in (slice(0, half), slice(half, None)):
        await world.put(task.rows[part], task.vectors[part])
        for vector, options in task.queries:
            found.append(told(await world.search(vector, **options)))
    await world.delete(*task.gone)
    for vector, options in task.queries:
        found.append(told(await world.search(vector, **options)))
        found.append(await pages(world, vector, options))
        where = {n: options[n] for n in ("where", "threshold") if n in options}
        query = world.query(similar=vector is not None, **where)
        found.append(await world.searcher.count(world.table, query, vector=vector, at_least=world.mark))
    return found


async def pages(world: World, vector: Vector | None, options: dict[str, Any]) -> list[Any]:
    """All that matches, three rows at a time."""
    keys: list[Any] = []
    cursor: str | None = None
    for _ in range(len(world.rows) + 1):
        page = await world.search(vector, **{**options, "limit": 3}, cursor=cursor)
        keys.append(page.keys)
        cursor = page.next_cursor
        if cursor is None:
            return keys
    raise AssertionError("the pages do not end")


def opened_world(at: int, task: Task, directory: Path, server: str) -> AbstractAsyncContextManager[World]:
    kind, budget = ENGINES[at]
    # The two of a server share a database: they are tables of their own.
    table = typed_table(task.metric).model_copy(update={"name": f"t{at}"})
    place = server if kind == "postgres" else None
    return opened(kind, directory / str(at), table, budget=budget, server=place)


# Shrinking would take minutes, past the time limit of a test.
@settings(
    max_examples=settings().max_examples // 2,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(task=tasks())
def test_engines_agree(postgres_url: str, task: Task) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as directory:
            expected: list[Any] | None = None
            for at, engine in enumerate(ENGINES):
                async with opened_world(at, task, Path(directory), postgres_url) as world:
                    found = await answers(world, task)
                expected = found if expected is None else expected
                assert found == expected, engine

    asyncio.run(main())
