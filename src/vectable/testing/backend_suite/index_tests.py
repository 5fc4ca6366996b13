"""Vector indexes that a backend builds itself: what they nominate is servable and passes the filter, they
follow writes, and are built anew however a build ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import numpy as np
import pytest

from vectable.core.predicate import TRUE, bind, parse_filter
from vectable.core.rows import Delete
from vectable.core.schema import Index, Metric
from vectable.core.vectors import distances, to_bytes
from vectable.engine.search.indexing import IndexBuilder, IndexedView
from vectable.errors import Conflict, InvalidInput
from vectable.interfaces import Backend, SchemaChange
from vectable.testing.backend_suite.fixtures import SuiteFixtures
from vectable.testing.backend_suite.subject import Subject, put
from vectable.testing.samples import clustered_vectors, every_type_table, text_key, vector_column

COUNT, DIMENSIONS = 600, 16


def builder_of(backend: Backend) -> IndexBuilder:
    """The backend, as what builds indexes; the test is over where it is none."""
    if not backend.capabilities.index_kinds:
        pytest.skip("this backend builds no vector indexes: that they are refused is tested with the schema")
    return cast(IndexBuilder, backend)


async def indexed(
    backend: Backend, kind: str, metric: Metric = Metric.COSINE, parameters: Mapping[str, Any] | None = None
) -> tuple[Subject, Index]:
    """A table of COUNT clustered vectors, and an index over them that is defined, not built."""
    table = every_type_table(vector_column("emb", DIMENSIONS, metric))
    subject = await Subject.create(backend, table)
    await fill(subject, range(COUNT))
    column = table.column("emb")
    checked = builder_of(backend).check_index(column.version, kind, parameters or {})
    index = Index(
        name="by_emb",
        column=column.id,
        type="vector",
        method=cast(Any, kind),
        parameters=checked,
        version=column.version.id,
    )
    await subject.alter(
        subject.table.model_copy(update={"indexes": (index,)}), SchemaChange("create_index", index=index)
    )
    return subject, index


async def fill(subject: Subject, numbers: range) -> None:
    """Rows with these numbers, each with its vector."""
    version = subject.table.column("emb").version.id
    matrix = clustered_vectors(COUNT, DIMENSIONS, clusters=30, seed=3)
    await subject.write(
        [
            put(
                {"id": f"{i:04d}", "stars": i % 10},
                wants={version: b"given"},
                vectors={version: to_bytes(matrix[i])},
            )
            for i in numbers
        ]
    )


def ignored(done: int, total: int) -> None:
    """Nobody asks how far a build is."""


@asynccontextmanager
async def viewed(subject: Subject) -> AsyncIterator[IndexedView]:
    """A view that can ask indexes."""
    async with subject.backend.view(subject.table, subject.mark) as view:
        yield cast(IndexedView, view)


class IndexTests(SuiteFixtures):
    @pytest.mark.parametrize("kind", ["hnsw", "ivfflat"])
    @pytest.mark.parametrize("metric", list(Metric))
    async def test_an_index_nominates_what_is_near(self, backend: Backend, kind: str, metric: Metric) -> None:
        if kind not in backend.capabilities.index_kinds:
            pytest.skip(f"{kind} is not built here: that it is refused is tested with the schema")
        subject, index = await indexed(backend, kind, metric)
        builder, seen = builder_of(backend), []
        await builder.build_index(subject.table, index, lambda done, total: seen.append((done, total)))
        await builder.build_index(subject.table, index, ignored)
        assert seen
        assert all(0 <= done <= total for done, total in seen)
        matrix = clustered_vectors(COUNT, DIMENSIONS, clusters=30, seed=3)
        effort, candidates = builder.efforts(index, COUNT)[-1]
        found = 0
        for query in clustered_vectors(10, DIMENSIONS, seed=9):
            apart = distances(query, matrix, metric)
            nearest = {text_key(f"{i:04d}") for i in np.argsort(apart, kind="stable")[:10]}
            async with viewed(subject) as view:
                everything = backend.push(subject.table, TRUE)
                keys = await view.nominate(index, effort, query, candidates, everything)
                assert await view.explain_nearest(
                    subject.table.column("emb").version, query, 10, everything, (index, effort)
                )
            assert len(keys) == len(set(keys))
            found += len(nearest & set(keys))
        assert found >= 90

    async def test_what_is_nominated_passes_the_filter_and_is_served(self, backend: Backend) -> None:
        builder_of(backend)
        kind = min(backend.capabilities.index_kinds)
        subject, index = await indexed(backend, kind)
        await builder_of(backend).build_index(subject.table, index, ignored)
        await subject.write(deletes=[Delete(text_key(f"{i:04d}")) for i in range(0, COUNT, 4)])
        await fill(subject, range(0, COUNT, 8))  # written after the index was built
        version = subject.table.column("emb").version.id
        await subject.put(
            *({"id": f"{i:04d}", "stars": 1} for i in range(1, COUNT, 4)), wants={version: None}
        )
        where = bind(parse_filter({"column": "stars", "operator": "<", "value": 5}), subject.table)
        allowed = {
            text_key(f"{i:04d}")
            for i in range(COUNT)
            if i % 10 < 5 and i % 4 != 1 and (i % 4 != 0 or i % 8 == 0)
        }
        effort, _ = builder_of(backend).efforts(index, COUNT)[-1]
        query = clustered_vectors(1, DIMENSIONS, seed=9)[0]
        async with viewed(subject) as view:
            pushed = backend.push(subject.table, where)
            assert set(await view.nominate(index, effort, query, 100, pushed)) <= allowed
            matching = await view.count(pushed)
            assert await view.count_up_to(pushed, 10 * COUNT) == matching
            assert await view.count_up_to(pushed, 7) == 7

    async def test_a_build_that_is_stopped_leaves_nothing_and_may_be_repeated(self, backend: Backend) -> None:
        builder_of(backend)
        subject, index = await indexed(backend, min(backend.capabilities.index_kinds))

        def stop(done: int, total: int) -> None:
            raise Conflict("stopped")

        with pytest.raises(Conflict, match="stopped"):
            await builder_of(backend).build_index(subject.table, index, stop)
        await fill(subject, range(10))
        await builder_of(backend).build_index(subject.table, index, ignored)
        query = clustered_vectors(1, DIMENSIONS, seed=9)[0]
        effort, candidates = builder_of(backend).efforts(index, COUNT)[0]
        async with viewed(subject) as view:
            assert await view.nominate(index, effort, query, candidates, backend.push(subject.table, TRUE))
        bare = subject.table.model_copy(update={"indexes": ()})
        await subject.alter(bare, SchemaChange("drop_index", index=index))
        found, complete = await subject.nearest(subject.table.column("emb").version, query, 5)
        assert len(found) >= 5
        assert complete

    async def test_parameters_that_do_not_fit_are_refused(self, backend: Backend, subject: Subject) -> None:
        builder, version = builder_of(backend), subject.table.column("emb").version
        for kind in backend.capabilities.index_kinds:
            with pytest.raises(InvalidInput):
                builder.check_index(version, kind, {"no_such_parameter": 1})
