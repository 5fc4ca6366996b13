"""Rows as 8-bit codes: a scan three times as fast as over float32, that bounds what it may have missed.

Rows and query are rounded to whole numbers within ±127: a row x becomes c with c / s near x, the query q
becomes p with p / t near q (t = s under euclidean, where both share one space). Faiss adds up products of
whole numbers exactly. With E the largest ‖x - c / s‖ of all rows and F = ‖q - p / t‖, Cauchy-Schwarz gives
|q·x - p·c / (t·s)| ≤ ‖q‖ · E + F · ‖c / s‖, and the triangle inequality |‖q - x‖ - ‖p - c‖ / s| ≤ E + F.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectable.core.schema import Metric
from vectable.core.vectors import Matrix, Vector
from vectable.indexes.kernels import Positions, library, one_thread
from vectable.indexes.structures import scaled_rows

_LEVELS = 127
_ROUNDING = 1e-6
"""More than float32 loses when an exact sum becomes a float, relative to the largest it can be."""
_WIDTH = 16
"""Faiss has fast kernels for multiples of this many dimensions."""
_PLAIN = 1e-18, 1e18
"""Components whose squares and their sums float32 holds without loss of range."""


def coded(matrix: Matrix, scale: NDArray[np.float32] | None, metric: Metric) -> FaissCodes | None:
    """Codes of the rows, each times its `scale`; None where 8 bits or Faiss are no good for them."""
    largest = max((float(np.abs(rows).max()) for rows in scaled_rows(matrix, scale)), default=0.0)
    if matrix.shape[1] % _WIDTH or not _PLAIN[0] < largest < _PLAIN[1]:
        return None
    return FaissCodes(matrix, scale, metric, largest)


class FaissCodes:
    """See `interfaces.CodeScan`. Immutable; searches may run in any number of threads at once."""

    def __init__(
        self, matrix: Matrix, scale: NDArray[np.float32] | None, metric: Metric, largest: float
    ) -> None:
        faiss = library()
        n, d = matrix.shape
        self._euclidean = metric is Metric.EUCLIDEAN
        self._step = np.float32(_LEVELS / largest)
        measure = faiss.METRIC_L2 if self._euclidean else faiss.METRIC_INNER_PRODUCT
        self._structure: Any = faiss.IndexScalarQuantizer(
            d, faiss.ScalarQuantizer.QT_8bit_direct_signed, measure
        )
        error = longest = 0.0
        with one_thread():
            for rows in scaled_rows(matrix, scale):
                codes = np.rint(rows * self._step)
                np.clip(codes, -_LEVELS, _LEVELS, out=codes)
                self._structure.add(codes)
                codes /= self._step
                codes -= rows
                error = max(error, float(np.vecdot(codes, codes).max()))
                longest = max(longest, float(np.vecdot(rows, rows).max()))
        # Widened for these sums' own rounding, and for rows that are not exactly as long as they should be.
        self._longest = math.sqrt(longest) * 1.001
        self._error = math.sqrt(error) * 1.001 + 1e-6 * self._longest
        self.nbytes = n * d

    @property
    def size(self) -> int:
        """How many rows there are."""
        return int(self._structure.ntotal)

    def search(self, query: Vector, k: int, keep: NDArray[np.bool_] | None = None) -> tuple[Positions, float]:
        """See `interfaces.CodeScan.search`."""
        faiss = library()
        k = min(k, self.size)
        selector = bits = options = None
        if keep is not None:
            bits = np.packbits(keep, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(keep), faiss.swig_ptr(bits))
            options = faiss.SearchParameters(sel=selector)
        asked, step = self._coded(query)
        nearness, found = np.empty(k, np.float32), np.empty(k, np.int64)
        pointer = faiss.swig_ptr
        with one_thread():
            self._structure.search_c(1, pointer(asked), k, pointer(nearness), pointer(found), options)
        # Faiss holds pointers only: the bitmap and its selector must outlive the search.
        del options, selector, bits
        if k == 0 or found[k - 1] < 0:
            return found[found >= 0], -math.inf
        return found, self._bound(query, asked, step, float(nearness[k - 1]))

    def _coded(self, query: Vector) -> tuple[Vector, float]:
        """The query in whole numbers, and what it was multiplied with."""
        largest = float(np.abs(query).max())
        step = float(self._step) if self._euclidean else _LEVELS / max(largest, _PLAIN[0])
        # Faiss cuts a query's fractions off wherever it multiplies bytes.
        codes = np.rint(np.clip(query * np.float32(step), -_LEVELS, _LEVELS))
        return codes.astype(np.float32, copy=False), step

    def _bound(self, query: Vector, asked: Vector, step: float, last: float) -> float:
        """The goodness nothing left out exceeds, when the last one found has this nearness."""
        wide = query.astype(np.float64)
        away = wide - asked.astype(np.float64) / step
        length, error = math.sqrt(float(wide @ wide)), math.sqrt(float(away @ away))
        if self._euclidean:
            apart = math.sqrt(max(last, 0.0) * (1 - _ROUNDING)) / step
            least = max(apart - self._error - error - _ROUNDING * length, 0.0)
            return float(-least * least)
        reach = (length + error) * (self._longest + self._error)
        slack = length * self._error + error * (self._longest + self._error)
        return float(last / (step * float(self._step)) + slack + _ROUNDING * reach)
