"""Vectors without a table: the best of some candidates, by the scores used everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectable.core.schema import Metric
from vectable.core.vectors import Matrix, Vector, check_vector, decode_base64, scores
from vectable.errors import InvalidInput, InvalidVector

MAX_CANDIDATES = 100_000
_BLOCK = 512
"""Rows scored at once: their float64 copies stay in the processor's cache, which halves the time."""
_FEW = 1_000
"""So many are scored exactly at once; of more, those that float32 cannot rule out."""
_LEAST, _MOST = 1e-20, 1e20
"""Squared lengths whose products float32 holds with small relative errors."""


@dataclass(frozen=True, slots=True)
class Match:
    """A candidate by its position, and its score: higher is better."""

    index: int
    score: float


def similarity(
    query: Any,
    candidates: Any,
    top_k: int = 10,
    threshold: float | None = None,
    metric: str = "cosine",
) -> list[Match]:
    """The best `top_k` candidates, score descending, then position ascending.

    `query`: numbers, float[d], or {"base64": little-endian float32}; `candidates`: float[n, d], a list of
    such vectors, or {"base64": …} of all of them one after the other, at most 100,000. `metric`: cosine
    (score cos θ), euclidean (1 / (1 + distance)) or dot (the product; also inner_product). `threshold` is the
    least score to be given back. Scores are computed in float64, as in tables. Raises InvalidInput for
    numbers out of range, InvalidVector naming the candidate whose dimension differs, that is not finite, or
    that is zero under cosine."""
    found = Metric.parse(metric)
    _check_numbers(top_k, threshold)
    asked = _query(query, found)
    matrix = _matrix(candidates, len(asked), found)
    return best(asked, matrix, found, top_k, threshold)


def best(
    query: Vector, candidates: Matrix, metric: Metric, top_k: int, threshold: float | None = None
) -> list[Match]:
    """`similarity` of vectors that were checked already."""
    if not len(candidates):
        return []
    within = _nominated(query, candidates, metric, top_k)
    rows = candidates if within is None else candidates[within]
    exact = np.concatenate([scores(query, rows[i : i + _BLOCK], metric) for i in range(0, len(rows), _BLOCK)])
    if top_k < len(exact):
        # Everything as good as the last that counts, so that ties are settled by position below.
        kept = np.flatnonzero(exact >= np.partition(exact, -top_k)[-top_k])
    else:
        kept = np.arange(len(exact))
    order = kept[np.argsort(-exact[kept], kind="stable")][:top_k]
    least = -math.inf if threshold is None else threshold
    positions = order if within is None else within[order]
    return [
        Match(int(i), float(score))
        for i, score in zip(positions, exact[order], strict=True)
        if score >= least
    ]


def _nominated(query: Vector, rows: Matrix, metric: Metric, top_k: int) -> NDArray[np.int64] | None:
    """Positions, ascending, among which the best `top_k` are for certain, ties included; None: all of them.

    Goodness in float32 is off by at most a part of ‖query‖ ‖row‖ (a sum of d products, in whatever order), so
    a row whose goodness at best is below `top_k` others' at worst is out."""
    n, dimensions = rows.shape
    if metric is Metric.EUCLIDEAN or n < _FEW or top_k > n // 4:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", rows, rows)
        square = float(np.dot(query, query))
        products = rows @ query
    small, large = float(squares.min()), float(squares.max())
    if not (min(small, square) > _LEAST and max(large, square) < _MOST):
        return None  # too near to what float32 can hold for its errors to be relative
    lengths = np.sqrt(squares.astype(np.float64) * square)
    error = 4 * (dimensions + 8) * float(np.finfo(np.float32).eps)
    if metric is Metric.COSINE:
        good, off = products / lengths, np.full(n, error)
    else:
        good, off = products.astype(np.float64), error * lengths
    bar = np.partition(good - off, -top_k)[-top_k]
    return np.flatnonzero(good + off >= bar)


def _check_numbers(top_k: object, threshold: object) -> None:
    if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= MAX_CANDIDATES:
        raise InvalidInput(f"top_k is {top_k!r}", hint=f"give a whole number from 1 to {MAX_CANDIDATES:,}")
    if threshold is None:
        return
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not math.isfinite(threshold):
        raise InvalidInput(f"threshold is {threshold!r}", hint="give the least score, a finite number")


def _query(query: Any, metric: Metric) -> Vector:
    if isinstance(query, Mapping) and isinstance(text := query.get("base64"), str):
        dimensions = len(decode_base64(text))
    else:
        listed = query.ndim > 0 if isinstance(query, np.ndarray) else isinstance(query, Sequence)
        dimensions = len(query) if listed else 0
    if isinstance(query, (str, bytes)) or dimensions < 1:
        raise InvalidVector("the query is not a vector", hint="give numbers, as Embedder.encode does")
    return check_vector(query, dimensions, metric)


def _matrix(candidates: Any, dimensions: int, metric: Metric) -> Matrix:
    if isinstance(candidates, Mapping) and isinstance(text := candidates.get("base64"), str):
        candidates = _unpacked(decode_base64(text), dimensions)
    if not isinstance(candidates, (np.ndarray, Sequence)) or isinstance(candidates, (str, bytes)):
        raise InvalidInput("candidates are a list of vectors, or an array float[n, d]")
    if len(candidates) > MAX_CANDIDATES:
        raise InvalidInput(f"{len(candidates):,} candidates are too many", hint=f"at most {MAX_CANDIDATES:,}")
    if isinstance(candidates, np.ndarray) and candidates.ndim == 2 and candidates.dtype.kind in "fiu":
        whole = _whole(candidates, dimensions, metric)
        if whole is not None:
            return whole
    checked = np.empty((len(candidates), dimensions), np.float32)
    if isinstance(candidates, list) and candidates and all(_is_row(each, dimensions) for each in candidates):
        whole = _whole(np.array(candidates, np.float64), dimensions, metric)
        if whole is not None:
            return whole
    for i, candidate in enumerate(candidates):
        try:
            checked[i] = check_vector(candidate, dimensions, metric)
        except InvalidVector as error:
            detail, hint = f"candidate {i}: {error.detail}", error.hint
            if "got" in error.context:  # there is no column here that it would have to fit
                detail = f"candidate {i} has {error.context['got']} dimensions, the query has {dimensions}"
                hint = "compare vectors of one model"
            raise InvalidVector(detail, hint=hint, context={**error.context, "index": i}) from None
    return checked


def _unpacked(components: Vector, dimensions: int) -> Matrix:
    if len(components) % dimensions:
        raise InvalidVector(
            f"the candidates have {len(components)} components together, the query {dimensions}",
            hint="give whole vectors of the query's dimensions, one after the other",
        )
    return components.reshape(-1, dimensions)


def _is_row(candidate: object, dimensions: int) -> bool:
    plain = type(candidate) is list and len(candidate) == dimensions
    return plain and set(map(type, candidate)) == {float}  # type: ignore[call-overload]


def _whole(candidates: NDArray[Any], dimensions: int, metric: Metric) -> Matrix | None:
    """The array as it is compared, if every row is a vector; None where one is not, to be named."""
    if candidates.shape[1] != dimensions:
        return None
    with np.errstate(over="ignore"):
        matrix: Matrix = np.ascontiguousarray(candidates, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", matrix, matrix)
    # Of ordinary numbers the squares tell at once; else each component is looked at.
    if len(squares) and np.isfinite(squares).all() and squares.min() > 0:
        return matrix
    if not np.isfinite(matrix).all() or (metric is Metric.COSINE and not matrix.any(axis=1).all()):
        return None
    return matrix
