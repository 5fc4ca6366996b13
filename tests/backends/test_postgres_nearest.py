"""Exact nearest neighbours in PostgreSQL: sorted by the server, proved by a margin, never less than exact."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest

from vectable.backends.postgres import PostgresBackend
from vectable.backends.postgres import nearest as module
from vectable.backends.postgres.margin import Margin, asked
from vectable.core.predicate import TRUE, Predicate, bind, parse_filter
from vectable.core.schema import Column, ColumnType, Metric, Table
from vectable.core.vectors import Matrix, Vector, distances, to_bytes
from vectable.drivers.postgres import PostgresDriver
from vectable.testing.backend_suite import Subject
from vectable.testing.backend_suite.subject import put
from vectable.testing.samples import clustered_vectors, text_key, vector_column


@pytest.fixture
async def backend(postgres_url: str) -> AsyncIterator[PostgresBackend]:
    driver = PostgresDriver(postgres_url, pool_least=1)
    backend = PostgresBackend(driver)
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
def compared_here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each search whose vectors were all read."""
    calls: list[int] = []
    whole = module._compared_here

    async def counted(*arguments: object) -> object:
        calls.append(1)
        return await whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_compared_here", counted)
    return calls


async def filled(backend: PostgresBackend, metric: Metric, matrix: Matrix) -> Subject:
    key = Column(name="id", type=ColumnType.STRING, nullable=False)
    bucket = Column(name="bucket", type=ColumnType.INT)
    columns = (key, bucket, vector_column("emb", matrix.shape[1], metric))
    subject = await Subject.create(backend, Table(name="t", key=(key.id,), columns=columns))
    version = subject.table.column("emb").version.id
    await subject.write(
        [
            put(
                {"id": f"{i:05d}", "bucket": i % 50},
                wants={version: b"given"},
                vectors={version: to_bytes(vector)},
            )
            for i, vector in enumerate(matrix)
        ]
    )
    return subject


async def check(
    subject: Subject,
    matrix: Matrix,
    query: Vector,
    ks: tuple[int, ...],
    where: Predicate = TRUE,
    step: int = 1,
) -> None:
    version = subject.table.column("emb").version
    apart = distances(query, matrix, version.metric)
    for k in ks:
        expected = sorted(range(0, len(matrix), step), key=lambda i: (apart[i], i))[:k]
        found, complete = await subject.nearest(version, query, k, where)
        assert complete
        assert [text_key(f"{i:05d}") for i in expected] == list(found[: len(expected)])
        assert len(found) >= len(expected)


@pytest.mark.parametrize("metric", list(Metric))
async def test_the_server_sorts_and_proves(
    backend: PostgresBackend, metric: Metric, compared_here: list[int]
) -> None:
    matrix = clustered_vectors(1_500, 24, clusters=20, seed=4)
    if metric is not Metric.COSINE:
        lengths = np.random.default_rng(2).uniform(0.1, 3, (len(matrix), 1))
        matrix = (matrix * lengths).astype(np.float32)
    subject = await filled(backend, metric, matrix)
    rare = bind(parse_filter({"column": "bucket", "operator": "=", "value": 0}), subject.table)
    for query in clustered_vectors(4, 24, seed=8):
        await check(subject, matrix, query, (1, 10, 1_000, 2_000))
        await check(subject, matrix, query, (1, 10, 40), rare, step=50)
    assert compared_here == []


@pytest.mark.parametrize("metric", list(Metric))
async def test_rows_closer_together_than_float32_can_tell_are_told_apart(
    backend: PostgresBackend, metric: Metric, compared_here: list[int]
) -> None:
    matrix = clustered_vectors(2_000, 8, clusters=1, spread=1e-7)
    matrix[100:200] = matrix[:100]
    subject = await filled(backend, metric, matrix)
    await check(subject, matrix, matrix[7], (1, 5, 50))
    # Products are all about 1 here, but differences are small themselves, and float32 tells those apart.
    assert bool(compared_here) == (metric is not Metric.EUCLIDEAN)


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.INNER_PRODUCT])
async def test_lengths_float32_cannot_hold_are_noticed(
    backend: PostgresBackend, metric: Metric, compared_here: list[int]
) -> None:
    matrix = clustered_vectors(1_000, 8, clusters=3, seed=1)
    extreme = matrix.copy()
    extreme[3] *= np.float32(1e-25)
    extreme[30] *= np.float32(1e25)
    subject = await filled(backend, metric, extreme)
    for query in (matrix[3], matrix[30], (matrix[30] * np.float32(1e20))):
        await check(subject, extreme, query, (1, 4))
    assert compared_here


async def test_a_long_row_among_short_ones_widens_the_margin_of_inner_products(
    backend: PostgresBackend,
) -> None:
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((300, 64)).astype(np.float32)
    # Orthogonal to the query but for cancellation: its float32 product may come out as anything.
    query = rng.standard_normal(64).astype(np.float32)
    matrix[11] = 1e7 * (matrix[11] - query * np.float32(matrix[11] @ query / (query @ query)))
    subject = await filled(backend, Metric.INNER_PRODUCT, matrix)
    await check(subject, matrix, query, (1, 10, 100))


@pytest.mark.parametrize("scale", [1e-22, 1e17, 1e30])
async def test_distances_beyond_float32(backend: PostgresBackend, scale: float) -> None:
    matrix = (clustered_vectors(60, 8, clusters=3, seed=1).astype(np.float64) * scale).astype(np.float32)
    subject = await filled(backend, Metric.EUCLIDEAN, matrix)
    await check(subject, matrix, (matrix[5] * np.float32(0.9)).astype(np.float32), (1, 4, 20))


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("dimensions", [3, 64, 1_000])
def test_the_margin_covers_float32(metric: Metric, dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    matrix = (rng.standard_normal((200, dimensions)) * rng.uniform(0.01, 100, (200, 1))).astype(np.float32)
    query = rng.standard_normal(dimensions).astype(np.float32)
    sent, exact = asked(query, metric), distances(query, matrix, metric)
    longest = float(np.linalg.norm(matrix.astype(np.float64), axis=1).max())
    margin = Margin(metric, dimensions, float(np.linalg.norm(query)), longest)
    products = np.array([np.cumsum(row * sent, dtype=np.float32)[-1] for row in matrix])
    if metric is Metric.EUCLIDEAN:
        told = np.sqrt([float(np.cumsum((row - sent) ** 2, dtype=np.float32)[-1]) for row in matrix])
    elif metric is Metric.INNER_PRODUCT:
        told = -products.astype(np.float64)
    else:
        squares = [float(np.cumsum(v**2, dtype=np.float32)[-1]) for v in (*matrix, sent)]
        told = 1 - products / np.sqrt(np.array(squares[:-1]) * squares[-1])
    for apart, true in zip(told, exact, strict=True):
        assert margin.least(float(apart)) <= true
        assert not margin.proves(float(apart), float(true))
        assert margin.proves(float(apart) + 0.01 * (1 + abs(true)) * longest, float(true))
