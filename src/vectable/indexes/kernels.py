"""Faiss itself: imported on first use, one thread per query, and its kernels over plain numpy rows."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectable.core.vectors import Matrix, Vector

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]


@functools.cache
def library() -> Any:
    """The module, imported on first use (0.1 s)."""
    import faiss

    return faiss


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Faiss uses one thread in what the calling thread does (the setting binds only the calling thread)."""
    faiss = library()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def over_all(name: str, query: Vector, matrix: Matrix) -> Floats:
    """The kernel `fvec_{name}_ny` for every row: float32 (n,)."""
    n, d = matrix.shape
    out = np.empty(n, np.float32)
    if n:
        faiss = library()
        pointer = faiss.swig_ptr
        getattr(faiss, f"fvec_{name}_ny")(pointer(out), pointer(query), pointer(matrix), d, n)
    return out


def over_some(name: str, query: Vector, matrix: Matrix, positions: Positions) -> Floats:
    """The kernel `fvec_{name}_by_idx` for matrix[positions], without gathering the rows: float32 (m,)."""
    m = len(positions)
    out = np.empty(m, np.float32)
    if m:
        faiss = library()
        pointer = faiss.swig_ptr
        kernel = getattr(faiss, f"fvec_{name}_by_idx")
        # Faiss forks a team of threads here even for one query; waiting for them costs more than the sums.
        with one_thread():
            kernel(pointer(out), pointer(query), pointer(matrix), pointer(positions), matrix.shape[1], 1, m)
    return out
