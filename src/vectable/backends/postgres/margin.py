"""How far the server's float32 distances may lie from the core's: what turns its order into a proof.

pgvector adds up d products in float32, in an order of its own: a sum of products is off by at most
(d + 16) · 2^-24 · ‖q‖ · ‖x‖, a squared distance by that factor of itself; gradual underflow adds at most
d · 2^-126."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vectable.core.schema import Metric
from vectable.core.vectors import Vector

OPERATORS = {Metric.COSINE: "<=>", Metric.EUCLIDEAN: "<->", Metric.INNER_PRODUCT: "<#>"}
SHORTEST, LONGEST = 1e-12, 1e18
"""Lengths between which float32 neither overflows nor underflows where it matters."""
_UNIT = 1.01 * 2.0**-24
_UNDERFLOW = 2.0**-126
_ROUNDING = 1e-12
"""More than the core's float64 may be off, as a share and by itself."""
_REACH = 1e37


def asked(vector: Vector, metric: Metric) -> Vector:
    """What the server compares with: of length 1 under cosine, which leaves the angles as they are."""
    if metric is not Metric.COSINE:
        return vector
    wide = vector.astype(np.float64)
    scaled: Vector = (wide / max(float(np.linalg.norm(wide)), 1e-300)).astype(np.float32)
    return scaled


@dataclass(frozen=True, slots=True)
class Margin:
    """For one query. `longest`: no row is longer (only inner products ask)."""

    metric: Metric
    dimensions: int
    length: float
    longest: float

    @property
    def certain(self) -> bool:
        """Whether anything can be said."""
        if self.metric is Metric.INNER_PRODUCT:
            return self.length * self.longest < _REACH
        return True

    def least(self, apart: float) -> float:
        """No row that the server puts at `apart` or farther has a smaller distance by the core."""
        relative = (self.dimensions + 16) * _UNIT
        underflow = self.dimensions * _UNDERFLOW
        if self.metric is Metric.EUCLIDEAN:
            squared = min(apart, 1e18) ** 2
            return math.sqrt(max(squared - underflow, 0.0) / (1 + relative))
        if self.metric is Metric.INNER_PRODUCT:
            return apart - relative * self.length * self.longest - underflow
        return apart - 3 * relative - underflow

    def proves(self, apart: float, kth: float) -> bool:
        """Whether every row the server puts at `apart` or farther is farther, by the core, than `kth`."""
        return self.least(apart) > kth + _ROUNDING * (1 + abs(kth))
