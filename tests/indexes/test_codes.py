"""8-bit codes: what they leave out is never better than they say, whatever the rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectable.core.schema import Metric
from vectable.core.vectors import Matrix, Vector, normalize
from vectable.indexes.faiss import FaissLibrary
from vectable.testing.samples import clustered_vectors

LIBRARY = FaissLibrary()
D = 32


def goodness(query: Vector, matrix: Matrix, metric: Metric) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """As `interfaces.CodeScan` defines it; under cosine of rows scaled to length 1."""
    rows, wide = matrix.astype(np.float64), query.astype(np.float64)
    if metric is Metric.EUCLIDEAN:
        return np.asarray(-((rows - wide) ** 2).sum(1))
    if metric is Metric.COSINE:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows @ wide)


@pytest.mark.parametrize("metric", list(Metric), ids=lambda m: m.value)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 400),
    k=st.integers(1, 40),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 8.0]),
    size=st.sampled_from([1e-6, 1.0, 1e6]),
    masked=st.booleans(),
)
def test_nothing_left_out_is_better_than_the_bound(
    metric: Metric, seed: int, count: int, k: int, spread: float, size: float, masked: bool
) -> None:
    random = np.random.default_rng(seed)
    rows = random.standard_normal((count, D)) * np.exp(spread * random.standard_normal((count, 1))) * size
    matrix = np.ascontiguousarray(rows, np.float32)
    query = (random.standard_normal(D) * size).astype(np.float32)
    scale = None
    if metric is Metric.COSINE:
        scale = (1 / np.linalg.norm(matrix.astype(np.float64), axis=1)).astype(np.float32)
        query = normalize(query[None])[0]
    keep = random.random(count) < 0.6 if masked else None
    codes = LIBRARY.codes(matrix, scale, metric)
    assert codes is not None
    assert codes.nbytes == count * D
    found, bound = codes.search(query, k, keep)
    eligible = np.ones(count, np.bool_) if keep is None else keep
    assert len(set(found.tolist())) == len(found) == min(k, int(eligible.sum()))
    assert eligible[found].all()
    left = np.setdiff1d(np.flatnonzero(eligible), found)
    if len(left):
        assert goodness(query, matrix[left], metric).max() <= bound


@pytest.mark.parametrize("metric", list(Metric), ids=lambda m: m.value)
def test_few_candidates_prove_the_nearest_of_clustered_rows(metric: Metric) -> None:
    matrix = clustered_vectors(3_000, 384, seed=5)
    codes = LIBRARY.codes(matrix, None, metric)
    assert codes is not None
    proved = 0
    for i in range(50):
        query = normalize(matrix[i : i + 1] + np.float32(0.02))[0]
        found, bound = codes.search(query, 32)
        exact = np.sort(goodness(query, matrix[found], metric))[::-1]
        proved += int(exact[9] > bound)
    assert proved >= 45


def test_rows_that_codes_are_no_good_for() -> None:
    assert LIBRARY.codes(np.zeros((5, D), np.float32), None, Metric.EUCLIDEAN) is None
    assert LIBRARY.codes(np.ones((5, D + 1), np.float32), None, Metric.COSINE) is None
    assert LIBRARY.codes(np.full((5, D), 1e30, np.float32), None, Metric.INNER_PRODUCT) is None
    assert LIBRARY.codes(np.empty((0, D), np.float32), None, Metric.INNER_PRODUCT) is None
