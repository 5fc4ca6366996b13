"""Vectors: what is accepted, and the formulas, against plain Python."""

from __future__ import annotations

import base64
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectable.core.schema import Metric
from vectable.core.vectors import (
    check_vector,
    decode_base64,
    distances,
    encode_base64,
    from_bytes,
    normalize,
    scores,
    stack,
    to_bytes,
)
from vectable.errors import InvalidVector

COMPONENT = st.floats(-1e3, 1e3, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)


def plain_distance(query: list[float], row: list[float], metric: Metric) -> float:
    product = math.fsum(a * b for a, b in zip(query, row, strict=True))
    if metric is Metric.INNER_PRODUCT:
        return -product
    if metric is Metric.EUCLIDEAN:
        return math.dist(query, row)
    return 1 - max(-1.0, min(1.0, product / (math.hypot(*query) * math.hypot(*row))))


def plain_score(distance: float, metric: Metric) -> float:
    if metric is Metric.EUCLIDEAN:
        return 1 / (1 + distance)
    return 1 - distance if metric is Metric.COSINE else -distance


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[float], list[list[float]]]:
    width = draw(st.integers(1, 9))
    vector = st.lists(COMPONENT, min_size=width, max_size=width).filter(any)
    return draw(vector), draw(st.lists(vector, min_size=1, max_size=6))


@pytest.mark.parametrize("metric", Metric)
@given(problem=problems())
def test_distance_and_score_are_the_documented_formulas(
    metric: Metric, problem: tuple[list[float], list[list[float]]]
) -> None:
    query, rows = problem
    vector, matrix = np.array(query, np.float32), np.array(rows, np.float32)
    expected = [plain_distance(query, row, metric) for row in rows]
    scale = 1 + max(abs(x) for x in query) * max(abs(x) for row in rows for x in row)
    assert distances(vector, matrix, metric) == pytest.approx(expected, abs=1e-12 * scale, rel=1e-9)
    assert scores(vector, matrix, metric) == pytest.approx(
        [plain_score(d, metric) for d in expected], abs=1e-12 * scale, rel=1e-9
    )


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 31, 64, 384, 385])
def test_a_distance_never_depends_on_the_other_rows(metric: Metric, width: int) -> None:
    rng = np.random.default_rng(width)
    query = rng.standard_normal(width).astype(np.float32)
    matrix = rng.standard_normal((67, width)).astype(np.float32)
    together = distances(query, matrix, metric)
    alone = [distances(query, matrix[i : i + 1], metric)[0] for i in range(len(matrix))]
    assert together.tolist() == alone
    shuffled = rng.permutation(len(matrix))
    assert distances(query, matrix[shuffled], metric).tolist() == together[shuffled].tolist()
    assert distances(query, matrix[5::3], metric).tolist() == together[5::3].tolist()
    assert distances(query, np.asfortranarray(matrix), metric).tolist() == together.tolist()


@pytest.mark.parametrize("width", [1, 3, 16, 384])
def test_normalizing_never_depends_on_the_other_rows(width: int) -> None:
    matrix = np.random.default_rng(1).standard_normal((40, width)).astype(np.float32)
    together = normalize(matrix)
    assert all((normalize(matrix[i : i + 1])[0] == together[i]).all() for i in range(40))
    assert (normalize(np.asfortranarray(matrix)) == together).all()
    assert np.linalg.norm(together.astype(np.float64), axis=1) == pytest.approx(np.ones(40), abs=1e-6)


def test_normalizing_keeps_zero_rows_and_copes_with_extremes() -> None:
    matrix = np.array([[0, 0], [3e38, 3e38], [1e-38, 0]], np.float32)
    assert normalize(matrix).tolist() == pytest.approx(np.array([[0, 0], [2**-0.5, 2**-0.5], [1, 0]]))


@pytest.mark.parametrize("metric", Metric)
def test_identical_and_opposite_vectors(metric: Metric) -> None:
    vector = np.random.default_rng(2).standard_normal(384).astype(np.float32)
    same, opposite = distances(vector, np.stack([vector, -vector]), metric)
    if metric is Metric.COSINE:
        assert (same, opposite) == (0.0, 2.0)
    elif metric is Metric.EUCLIDEAN:
        assert same == 0.0
        assert opposite == pytest.approx(2 * np.linalg.norm(vector.astype(float)))
    else:
        assert same == -opposite


def test_orthogonal_vectors_have_no_negative_zero() -> None:
    query, matrix = np.array([1, 0], np.float32), np.array([[0, 1]], np.float32)
    assert str(distances(query, matrix, Metric.INNER_PRODUCT)[0]) == "0.0"
    assert str(scores(query, matrix, Metric.INNER_PRODUCT)[0]) == "0.0"


@pytest.mark.parametrize("metric", Metric)
def test_huge_components_do_not_overflow(metric: Metric) -> None:
    query, matrix = np.full(4, 3e38, np.float32), np.full((1, 4), -3e38, np.float32)
    assert np.isfinite(distances(query, matrix, metric)).all()


@pytest.mark.parametrize("metric", Metric)
def test_no_rows_have_no_distances(metric: Metric) -> None:
    assert distances(np.ones(3, np.float32), np.empty((0, 3), np.float32), metric).shape == (0,)


@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_every_spelling_of_a_vector_is_the_same_vector(values: list[float]) -> None:
    expected = np.array(values, np.float32)
    encoded = base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
    spellings = [values, tuple(values), expected, expected.astype(np.float64), {"base64": encoded}]
    for spelling in spellings:
        vector = check_vector(spelling, len(values), Metric.EUCLIDEAN)
        assert vector.dtype == np.float32
        assert vector.flags.c_contiguous
        assert vector.tobytes() == expected.tobytes()
    assert encode_base64(expected) == encoded
    assert decode_base64(encoded).tobytes() == expected.tobytes()
    assert from_bytes(to_bytes(expected)).tobytes() == expected.tobytes()


def test_stacked_bytes_are_the_rows() -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert stack([to_bytes(row) for row in matrix], 3).tolist() == matrix.tolist()
    assert stack([], 3).shape == (0, 3)


def test_a_checked_vector_does_not_change_with_the_caller_s_array() -> None:
    mine = np.ones(3, np.float32)
    checked = check_vector(mine, 3, Metric.COSINE)
    mine[:] = 7
    assert checked.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([1, 2], "2 dimensions, the column has 3"),
        ([[1, 2, 3]], "component 0 of the vector is a list"),
        (np.ones((1, 3)), "has 2"),
        ([1, 2, math.nan], "not finite"),
        ([1, 2, math.inf], "not finite"),
        ([1, 2, 1e39], "not finite in float32"),
        ([1, 2, 10**400], "too large"),
        (["1", 2, 3], "component 0 of the vector is a str"),
        ([True, 2, 3], "component 0 of the vector is a bool"),
        ([None, 2, 3], "component 0"),
        ("[1,2,3]", "expected a vector, not str"),
        (b"123", "expected a vector, not bytes"),
        (None, "expected a vector, not NoneType"),
        ({"base64": "AAAA"}, "3 bytes"),
        ({"base64": "*"}, "not valid base64"),
        ({"base64": "é"}, "not valid base64"),
        ({"base64": 7}, "exactly one field"),
        ({"base64": "AAAAAA==", "more": 1}, "exactly one field"),
        ({}, "exactly one field"),
        (np.array([True, False, True]), "not bool"),
        (np.array([1j, 2, 3]), "not complex"),
        (np.array(["a", "b", "c"]), "holds numbers"),
        ([0, 0.0, -0.0], "zero vector"),
        ([1e-60, 0, 0], "zero vector"),
    ],
)
def test_what_is_not_a_vector_is_refused_with_its_reason(value: object, says: str) -> None:
    with pytest.raises(InvalidVector, match=says.replace("[", r"\[")):
        check_vector(value, 3, Metric.COSINE)


@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.INNER_PRODUCT])
def test_the_zero_vector_is_fine_where_it_has_a_distance(metric: Metric) -> None:
    assert check_vector([0, 0, 0], 3, metric).tolist() == [0, 0, 0]
