"""Candidates: the true nearest are among them, for every metric, with ties and filters."""

from __future__ import annotations

import numpy as np
import pytest

from vectable.core.key import KeyBytes
from vectable.core.predicate import TRUE, Predicate, bind, parse_filter
from vectable.core.rows import Delete, Put
from vectable.core.schema import Metric, Version
from vectable.core.vectors import Matrix, Vector, distances, to_bytes
from vectable.interfaces import Backend
from vectable.testing.backend_suite.fixtures import SuiteFixtures
from vectable.testing.backend_suite.subject import Subject, put
from vectable.testing.samples import clustered_vectors, every_type_table, text_key, vector_column

COUNT = 240


def nearest_keys(query: Vector, keys: list[KeyBytes], matrix: Matrix, metric: Metric) -> list[KeyBytes]:
    """All keys, nearest first, ties by key."""
    apart = distances(query, matrix, metric).tolist()
    return [key for _, key in sorted(zip(apart, keys, strict=True))]


async def filled(backend: Backend, metric: Metric) -> tuple[Subject, Version, list[KeyBytes], Matrix]:
    """A table of clustered vectors, a quarter of them copies of others, so that there are ties."""
    table = every_type_table(vector_column("emb", 16, metric))
    subject = await Subject.create(backend, table)
    version = table.column("emb").version
    matrix = clustered_vectors(COUNT, 16, clusters=12, seed=3)
    if metric is not Metric.COSINE:
        matrix = (matrix * np.random.default_rng(1).uniform(0.5, 2, (COUNT, 1))).astype(np.float32)
    matrix[:60] = matrix[60:120]
    puts = [
        put(
            {"id": f"{i * 37 % COUNT:04d}", "stars": i % 10, "title": "even" if i % 2 == 0 else None},
            wants={version.id: b"given"},
            vectors={version.id: to_bytes(vector)},
        )
        for i, vector in enumerate(matrix)
    ]
    await subject.write(puts)
    return subject, version, [p.key for p in puts], matrix


class NearestTests(SuiteFixtures):
    @pytest.mark.parametrize("metric", list(Metric))
    async def test_the_true_nearest_are_among_the_candidates(self, backend: Backend, metric: Metric) -> None:
        subject, version, keys, matrix = await filled(backend, metric)
        for query in [*matrix[[0, 61, 200]], *clustered_vectors(5, 16, seed=9)]:
            expected = nearest_keys(query, keys, matrix, metric)
            for k in (1, 2, 10, 100, COUNT, 5 * COUNT):
                found, complete = await subject.nearest(version, query, k)
                assert len(found) == len(set(found)) >= min(k, COUNT)
                assert set(found) <= set(keys)
                if complete:
                    assert set(expected[:k]) <= set(found)

    @pytest.mark.parametrize("metric", list(Metric))
    @pytest.mark.parametrize(
        "filter_",
        [
            {"column": "stars", "operator": "=", "value": 3},
            {"column": "title", "operator": "ilike", "value": "EVEN"},
            {"op": "not", "arg": {"column": "title", "operator": "starts_with", "value": "e"}},
            [{"column": "stars", "operator": "<", "value": 3}, {"column": "title", "operator": "is null"}],
            {"column": "stars", "operator": ">", "value": 99},
        ],
        ids=["equal", "ilike", "complement", "and", "none"],
    )
    async def test_the_true_nearest_under_a_filter(
        self, backend: Backend, metric: Metric, filter_: object
    ) -> None:
        subject, version, keys, matrix = await filled(backend, metric)
        where = bind(parse_filter(filter_), subject.table)
        matching = {key for key, _ in await subject.rows(where)}
        query = clustered_vectors(1, 16, seed=9)[0]
        expected = [key for key in nearest_keys(query, keys, matrix, metric) if key in matching]
        everything, _ = await subject.nearest(version, query, COUNT, where)
        assert set(expected) <= set(everything)
        if _exact(subject, where):
            assert set(everything) == set(expected)
            for k in (1, 5, 20):
                found, complete = await subject.nearest(version, query, k, where)
                assert len(found) >= min(k, len(expected))
                assert not complete or set(expected[:k]) <= set(found)

    async def test_what_has_no_servable_vector_is_no_match(self, subject: Subject) -> None:
        vectors = [to_bytes(v) for v in clustered_vectors(2, 4)]
        query = clustered_vectors(1, 4)[0]
        for name, stale_serves in (("auto", False), ("lazy", True), ("emb", False)):
            version = subject.table.column(name).version
            v = version.id
            ready = {"wants": {v: b"1"}, "vectors": {v: vectors[0]}}
            await subject.write([put({"id": "ready"}, **ready), put({"id": "stale"}, **ready)])
            await subject.write([put({"id": "emptied"}, **ready), put({"id": "gone"}, **ready)])
            await subject.put({"id": "stale"}, {"id": "new"}, wants={v: b"2"})
            await subject.put({"id": "emptied"}, wants={v: None})
            await subject.put({"id": "never"})
            await subject.write(deletes=[Delete(text_key("gone"))])
            found, _ = await subject.nearest(version, query, 10)
            servable = {"ready", "stale"} if stale_serves else {"ready"}
            assert {text_key(i) for i in servable} <= set(found)
            cells = {i: (await subject.cells(version, i))[0] for i in ("ready", "stale", "new", "emptied")}
            assert {i for i, cell in cells.items() if cell.servable(stale_serves)} == servable

    async def test_a_staged_version_is_searched_by_itself(self, subject: Subject) -> None:
        emb, auto = (subject.table.column(name).version for name in ("emb", "auto"))
        matrix = clustered_vectors(2, 4, clusters=2, seed=5)
        first, second = (to_bytes(v) for v in matrix)
        wants = {emb.id: b"given", auto.id: b"w"}
        await subject.write(
            [
                Put(text_key("a"), {"id": "a"}, wants, {emb.id: first, auto.id: second}),
                Put(text_key("b"), {"id": "b"}, wants, {emb.id: second}),
            ]
        )
        assert text_key("a") in (await subject.nearest(emb, matrix[0], 1))[0]
        assert text_key("b") in (await subject.nearest(emb, matrix[1], 1))[0]
        assert text_key("a") in (await subject.nearest(auto, matrix[1], 1))[0]

    async def test_nothing_to_find(self, subject: Subject) -> None:
        version = subject.table.column("emb").version
        query = clustered_vectors(1, 4)[0]
        assert (await subject.nearest(version, query, 10))[0] == []
        await subject.put({"id": "a"})
        assert set((await subject.nearest(version, query, 10))[0]) <= {text_key("a")}


def _exact(subject: Subject, where: Predicate) -> bool:
    return where == TRUE or subject.backend.push(subject.table, where).residual is None
