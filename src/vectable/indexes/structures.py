"""How each kind of Faiss structure is made, trained, and told how hard to search.

Cosine is inner product over rows scaled to length 1; the others take rows as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectable.core.schema import Metric
from vectable.core.vectors import Matrix
from vectable.indexes.kernels import library

TRAINING_ROWS = 4_000
_SEED = 20_240_611
_CHUNK = 8_192
_ROWS_PER_CENTROID = 39

Scale = NDArray[np.float32]


def scaled_rows(matrix: Matrix, scale: Scale | None, chunk: int = _CHUNK) -> Iterator[Matrix]:
    """The rows in chunks, each times its `scale` (1 / length under cosine)."""
    for at in range(0, len(matrix), chunk):
        rows = matrix[at : at + chunk]
        yield rows if scale is None else rows * scale[at : at + chunk, None]


def _sample(matrix: Matrix, scale: Scale | None, count: int) -> Matrix:
    if len(matrix) <= count:
        chosen = np.arange(len(matrix))
    else:
        chosen = np.sort(np.random.default_rng(_SEED).choice(len(matrix), count, replace=False))
    rows = np.ascontiguousarray(matrix[chosen])
    return rows if scale is None else rows * scale[chosen, None]


def _faiss_metric(metric: Metric) -> int:
    faiss = library()
    return int(faiss.METRIC_L2 if metric is Metric.EUCLIDEAN else faiss.METRIC_INNER_PRODUCT)


def _unit_rows(dimensions: int, length: float) -> Matrix:
    """The same random directions on every machine: a codebook that needs no data, so it never drifts."""
    rows = np.random.default_rng(_SEED).standard_normal((TRAINING_ROWS, dimensions)).astype(np.float32)
    rows *= np.float32(length) / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _typical_length(matrix: Matrix, scale: Scale | None) -> float:
    rows = _sample(matrix, scale, 1_000)
    return float(np.sqrt(np.mean(np.einsum("ij,ij->i", rows, rows, dtype=np.float64)))) or 1.0


def empty_structure(
    kind: str, matrix: Matrix, scale: Scale | None, metric: Metric, parameters: Mapping[str, int]
) -> Any:
    """A trained Faiss structure of that kind, without rows yet."""
    faiss = library()
    n, d = matrix.shape
    measure = _faiss_metric(metric)
    if kind == "fast-scan":
        made = faiss.index_factory(d, f"IVF1,PQ{scan_pieces(d)}x4fs", measure)
        made.train(_unit_rows(d, _typical_length(matrix, scale)))
        return made
    if kind == "hnsw":
        made = faiss.IndexHNSWFlat(d, parameters.get("m", 32), measure)
        made.hnsw.efConstruction = parameters.get("ef_construction", 200)
        return made
    if kind == "flat":
        return faiss.IndexFlat(d, measure)
    lists = min(parameters.get("lists", max(1, round(n**0.5))), n)
    if kind == "ivfflat":
        made = faiss.index_factory(d, f"IVF{lists},Flat", measure)
    else:
        pieces = parameters.get("m", _pieces(d))
        # 16 centroids train on any number of rows; 256 need about 10,000.
        bits = 8 if n >= 256 * _ROWS_PER_CENTROID else 4
        made = faiss.index_factory(d, f"IVF{lists},PQ{pieces}x{bits}", measure)
    sample = _sample(matrix, scale, max(lists * 64, 20_000))
    # Faiss refuses to train on fewer rows than centroids, and complains below 39 each: repeats do no harm.
    wanted = _ROWS_PER_CENTROID * max(lists, 16)
    made.train(np.ascontiguousarray(np.tile(sample, (-(-wanted // len(sample)), 1))))
    return made


def _pieces(dimensions: int) -> int:
    return next((dimensions // width for width in (4, 3, 2) if dimensions % width == 0), dimensions)


def scan_pieces(dimensions: int) -> int:
    """Into how many 4-bit pieces a fast scan cuts a row: of three dimensions each, where that comes out even,
    which is a quarter faster than pairs and finds as much once re-ranked."""
    return dimensions // (3 if dimensions % 3 == 0 else 2)


def efforts(kind: str, structure: Any, parameters: Mapping[str, int]) -> list[int]:
    """Growing search efforts to try: `ef_search` of hnsw, `probes` of ivf; what the user fixed, alone."""
    if kind == "hnsw":
        return [parameters["ef_search"]] if "ef_search" in parameters else [64, 128, 256, 512]
    if kind in ("ivfflat", "ivfpq"):
        lists = int(structure.nlist)
        if "probes" in parameters:
            return [min(parameters["probes"], lists)]
        return sorted({max(1, lists // part) for part in (32, 16, 8, 4, 2)})
    return [0]


def search_parameters(kind: str, effort: int, k: int, selector: Any) -> Any:
    """Faiss's own parameter object for one search."""
    faiss = library()
    if kind == "hnsw":
        return faiss.SearchParametersHNSW(sel=selector, efSearch=max(effort, k))
    if kind in ("ivfflat", "ivfpq", "fast-scan"):
        return faiss.SearchParametersIVF(sel=selector, nprobe=max(effort, 1))
    return faiss.SearchParameters(sel=selector)
