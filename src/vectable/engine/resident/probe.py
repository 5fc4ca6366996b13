"""A query vector ready to compare: fast float32 goodness, and how far it may lie from the exact score.

*Goodness* is a float32 stand-in that orders like the score: the cosine, the product, or minus the squared
distance. The error bounds hold for sums in any order: a product of d terms is off by at most
(d + 16) · 2^-24 · ‖q‖ · ‖x‖, a squared distance by that factor of itself, and gradual underflow adds at most
d · 2^-126. Where a bound cannot be given (components so large or small that float32 breaks down), `certain`
is False and every row is scored exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vectable.core.schema import Metric
from vectable.core.vectors import Matrix, Vector, distances, score_of
from vectable.interfaces import VectorLibrary

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]

_UNIT = 1.01 * 2.0**-24
_UNDERFLOW = 2.0**-126
_SCORE_STEP = 1e-15
"""1 / (1 + d) cannot tell distances apart that differ by less."""
_LARGE, _SMALL = 1e37, 1e-25
_BLOCK = 64


@dataclass(frozen=True, slots=True)
class Bounds:
    """How goodness relates to exact scores, for rows of certain lengths."""

    euclidean: bool
    relative: float
    absolute: float
    certain: bool

    def least(self, exact: float) -> float:
        """Rows whose exact goodness is `exact` or better have at least this goodness."""
        if not self.euclidean:
            return exact - self.absolute
        distance = math.sqrt(max(-exact, 0.0)) + _SCORE_STEP
        return -(distance * distance * (1 + self.relative) + self.absolute)

    def surely(self, exact: float) -> float:
        """Rows of at least this goodness are strictly better than `exact`, in score too."""
        if not self.euclidean:
            return exact + self.absolute
        distance = max(math.sqrt(max(-exact, 0.0)) - _SCORE_STEP, 0.0)
        return -(distance * distance * (1 - self.relative)) + self.absolute

    def cut(self, goodness: float) -> float:
        """When k rows have this goodness or better, the exact best k are among the rows that have at least
        the value returned."""
        if goodness == -math.inf or not self.certain:
            return -math.inf
        if not self.euclidean:
            return goodness - 2 * self.absolute
        return self.least(goodness * (1 + 1.1 * self.relative) - self.absolute)


class Probe:
    """One query vector under one metric. Immutable."""

    __slots__ = ("_library", "_query", "length", "metric", "vector")

    def __init__(self, vector: Vector, metric: Metric, library: VectorLibrary) -> None:
        self.vector = vector
        self.metric = metric
        self._library = library
        wide = vector.astype(np.float64)
        self.length = math.sqrt(float(wide @ wide))
        if metric is Metric.COSINE and self.length > 0:
            self._query: Vector = (wide / self.length).astype(np.float32)
        else:
            self._query = np.ascontiguousarray(vector, np.float32)

    @property
    def scaled(self) -> Vector:
        """The vector goodness is computed with: of length 1 under cosine."""
        return self._query

    def bounds(self, shortest: float, longest: float) -> Bounds:
        """For rows whose lengths lie between the two."""
        d = len(self.vector)
        relative = (d + 16) * _UNIT
        underflow = d * _UNDERFLOW
        if self.metric is Metric.EUCLIDEAN:
            certain = (self.length + longest) ** 2 < _LARGE
            return Bounds(True, relative, underflow, certain)
        if self.metric is Metric.INNER_PRODUCT:
            reach = self.length * longest
            return Bounds(False, 0.0, relative * reach + underflow, reach < _LARGE)
        certain = shortest > _SMALL and longest < _LARGE and _SMALL < self.length < _LARGE
        return Bounds(False, 0.0, relative + underflow / max(shortest, _SMALL), certain)

    def goodness(self, matrix: Matrix, scale: Floats, positions: Positions | None = None) -> Floats:
        """Goodness of every row, or of those at `positions`: float32 (n,)."""
        if self.metric is Metric.EUCLIDEAN:
            squared = self._library.squared_distances(self._query, matrix, positions)
            return np.negative(squared, out=squared)
        found = self._library.products(self._query, matrix, positions)
        if self.metric is Metric.COSINE:
            found *= scale if positions is None else scale[positions]
        return found

    def exact_goodness(self, score: float) -> float:
        """The goodness (as a real number) that has this score."""
        if self.metric is not Metric.EUCLIDEAN:
            return score
        if score <= 0:
            return -math.inf
        distance = max(1.0 / score - 1.0, 0.0)
        return -distance * distance if distance < 1e150 else -math.inf

    def score(self, matrix: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(scores, distances) of the rows, exact by the definition in `core.vectors`."""
        found = distances(self.vector, matrix, self.metric)
        return score_of(found, self.metric), found


def kth_best(goodness: Floats, k: int) -> float:
    """The k-th largest value; minus infinity when there are not more than k."""
    n = len(goodness)
    if k <= 0 or n <= k:
        return -math.inf
    floor = floor_of_best(goodness, k)
    if floor is not None:
        goodness = goodness[goodness >= floor]
        n = len(goodness)
    return float(np.partition(goodness, n - k)[n - k])


def floor_of_best(goodness: Floats, k: int) -> float | None:
    """A value not above the k-th largest, few others above it; None where there are too few to be quick."""
    n = len(goodness)
    if k <= 0 or n <= 4_096 or n <= 2 * k * _BLOCK:
        return None
    # The k-th largest of the blocks' maxima.
    best = goodness[: n - n % _BLOCK].reshape(_BLOCK, -1).max(0)
    return float(np.partition(best, len(best) - k)[len(best) - k])
