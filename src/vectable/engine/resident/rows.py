"""Vector rows as they are held: the stored float32 components and what cosine needs beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectable.core.vectors import Matrix

_CHUNK = 8_192


def raw(array: NDArray[Any]) -> memoryview:
    """The bytes of a C-contiguous array, without a copy."""
    found: memoryview = array.reshape(-1).view(np.uint8).data
    return found


def lengths(matrix: Matrix) -> NDArray[np.float64]:
    """Euclidean length of each row, in float64."""
    out = np.empty(len(matrix), np.float64)
    for at in range(0, len(matrix), _CHUNK):
        wide = np.asarray(matrix[at : at + _CHUNK], np.float64)
        out[at : at + _CHUNK] = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return out


def inverse(of: NDArray[np.float64]) -> NDArray[np.float32]:
    """1 / length as float32; 0 for a zero row (which cosine never holds)."""
    with np.errstate(divide="ignore", over="ignore"):
        scale = np.where(of > 0, 1.0 / of, 0.0)
    return np.asarray(np.minimum(scale, np.finfo(np.float32).max), np.float32)
