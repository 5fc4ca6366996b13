"""The best of some candidates: the scores of tables, ties by position, everything else refused."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from vectable.core.schema import Metric
from vectable.core.similarity import Match, similarity
from vectable.core.vectors import scores
from vectable.errors import InvalidInput, InvalidVector


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
@pytest.mark.parametrize("n", [1, 10, 511, 1300])
def test_the_best_are_those_of_all_scores(metric: str, n: int) -> None:
    rng = np.random.default_rng(n)
    query, candidates = rng.normal(size=8).astype(np.float32), rng.integers(-2, 3, (n, 8)).astype(np.float32)
    candidates[(candidates == 0).all(axis=1)] = 1
    expected = scores(query, candidates, Metric.parse(metric))
    order = sorted(range(n), key=lambda i: (-expected[i], i))[:7]
    found = similarity(query, candidates, top_k=7, metric=metric)
    assert found == [Match(i, float(expected[i])) for i in order]


def test_ties_come_in_the_order_given() -> None:
    assert [m.index for m in similarity([1, 0], [[0, 1]] + [[2, 0]] * 5, top_k=3)] == [1, 2, 3]


def test_a_threshold_is_the_least_score() -> None:
    candidates = [[1, 0], [1, 1], [0, 1]]
    assert [m.index for m in similarity([1, 0], candidates, threshold=0.5)] == [0, 1]
    assert similarity([1, 0], candidates, threshold=1.0) == [Match(0, 1.0)]
    assert similarity([1, 0], []) == []


def test_every_form_of_a_vector() -> None:
    packed = {"base64": base64.b64encode(np.array([1, 0], "<f4").tobytes()).decode()}
    assert similarity(packed, [packed, [0.0, 1.0], np.array([1, 1])])[0] == Match(0, 1.0)
    assert similarity((1, 0), np.eye(2, dtype=np.float64))[0] == Match(0, 1.0)


@pytest.mark.parametrize(
    "bad", [[1, 2, 3], [0, 0], [float("nan"), 1], [1e39, 1], ["a", "b"], "text", {"base64": "????"}, None]
)
def test_the_bad_candidate_is_named(bad: object) -> None:
    with pytest.raises(InvalidVector, match="candidate 1") as caught:
        similarity([1, 0], [[1, 0], bad])
    assert caught.value.context["index"] == 1


def test_a_bad_row_of_an_array_is_named() -> None:
    for bad in (np.nan, 0.0):
        array = np.ones((3, 2))
        array[2] = bad
        with pytest.raises(InvalidVector, match="candidate 2"):
            similarity([1, 0], array)
    with pytest.raises(InvalidVector, match="candidate 0"):
        similarity([1, 0], np.ones((3, 3)))


def test_the_zero_vector_has_a_distance_but_no_cosine() -> None:
    assert similarity([1, 0], [[0, 0]], metric="euclidean") == [Match(0, 0.5)]
    with pytest.raises(InvalidVector):
        similarity([0, 0], [[1, 0]])


@pytest.mark.parametrize(
    "given",
    [
        {"top_k": 0},
        {"top_k": True},
        {"top_k": 2.0},
        {"threshold": "a"},
        {"threshold": float("nan")},
        {"metric": "manhattan"},
        {"candidates": "text"},
        {"candidates": 5},
        {"candidates": np.ones((100_001, 1))},
        {"query": "text"},
        {"query": []},
        {"query": 5},
        {"query": None},
        {"query": np.float32(3)},
        {"query": {"base64": 5}},
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        similarity(**({"query": [1, 0], "candidates": [[1, 0]]} | given))  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9, 1e-18, 1e18])
def test_float32_rules_out_nothing_that_counts(metric: str, scale: float) -> None:
    """Many candidates: near ties, duplicates and lengths of every size, against every score in float64."""
    generator = np.random.default_rng(11)
    base = generator.standard_normal((40, 64))
    near = base[generator.integers(0, 40, 3_000)] + generator.standard_normal((3_000, 64)) * 1e-7
    near *= np.exp(generator.uniform(-2, 2, (3_000, 1)))
    rows = (near * scale).astype(np.float32)
    rows[1_500:1_600] = rows[0]
    query = base[0].astype(np.float32)
    wide, asked = rows.astype(np.float64), query.astype(np.float64)
    exact = np.einsum("ij,j->i", wide, asked)
    if metric == "cosine":
        exact /= np.linalg.norm(wide, axis=1) * np.linalg.norm(asked)
    for top_k in (1, 7, 150):
        found = similarity(query, rows, top_k=top_k, metric=metric)
        kth = np.sort(exact)[-top_k]
        assert len(found) == top_k
        tolerance = 1e-12 * max(1.0, float(np.abs(exact).max()))
        assert min(match.score for match in found) >= kth - tolerance
        assert {match.index for match in found} >= set(np.flatnonzero(exact > kth + tolerance).tolist())
        for match in found:
            assert match.score == pytest.approx(exact[match.index], rel=1e-12, abs=tolerance)
