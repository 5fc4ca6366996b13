"""Rows newer than the base: append-only, so a snapshot is a length. Its owner guards it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vectable.core.key import KeyBytes
from vectable.core.vectors import Matrix
from vectable.engine.resident.rows import inverse, lengths


@dataclass(frozen=True, slots=True)
class DeltaView:
    """The first `length` rows, unchanged for ever. `keys` may go on beyond them."""

    keys: Sequence[KeyBytes]
    length: int
    matrix: Matrix
    scale: NDArray[np.float32]
    shortest: float
    longest: float


class Delta:
    """The growing rows of one version."""

    def __init__(self, dimensions: int) -> None:
        self.keys: list[KeyBytes] = []
        self._matrix: Matrix = np.empty((0, dimensions), np.float32)
        self._scale: NDArray[np.float32] = np.empty(0, np.float32)
        self._shortest, self._longest = float("inf"), 0.0

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Room that is allocated, used or not."""
        return self._matrix.nbytes + self._scale.nbytes + len(self.keys) * 100

    def append(self, keys: Sequence[KeyBytes], matrix: Matrix) -> None:
        """Adds rows behind those there are."""
        if not keys:
            return
        start, end = len(self.keys), len(self.keys) + len(keys)
        self._reserve(end)
        of = lengths(matrix)
        self._matrix[start:end] = matrix
        self._scale[start:end] = inverse(of)
        self._shortest = min(self._shortest, float(of.min()))
        self._longest = max(self._longest, float(of.max()))
        self.keys.extend(keys)

    def _reserve(self, size: int) -> None:
        if size <= len(self._matrix):
            return
        # New arrays, never resized ones: snapshots hold views of the old.
        used, capacity = len(self.keys), max(size, 2 * len(self._matrix), 64)
        matrix = np.empty((capacity, self._matrix.shape[1]), np.float32)
        scale = np.empty(capacity, np.float32)
        matrix[:used], scale[:used] = self._matrix[:used], self._scale[:used]
        self._matrix, self._scale = matrix, scale

    def view(self) -> DeltaView:
        """The rows there are now."""
        n = len(self.keys)
        return DeltaView(self.keys, n, self._matrix[:n], self._scale[:n], self._shortest, self._longest)
