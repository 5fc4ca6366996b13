"""Vectors: what is accepted, how they are stored, and the one formula per metric for score and distance."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectable.core.schema import Metric
from vectable.errors import InvalidVector

Vector = NDArray[np.float32]
"""One vector: shape (dimensions,), float32, finite, C-contiguous."""
Matrix = NDArray[np.float32]
"""Vectors as rows: shape (n, dimensions), float32, finite, C-contiguous."""

_LITTLE_FLOAT32 = np.dtype("<f4")
_NUMBERS = frozenset({int, float})


def decode_base64(text: str) -> Vector:
    """Little-endian float32 components from base64. Raises InvalidVector."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidVector("the vector is not valid base64") from None
    if len(raw) % 4:
        raise InvalidVector(f"the vector has {len(raw)} bytes", hint="float32 components take 4 bytes each")
    return np.frombuffer(raw, _LITTLE_FLOAT32).astype(np.float32)


def encode_base64(vector: NDArray[np.floating[Any]]) -> str:
    """The inverse of `decode_base64`."""
    return base64.b64encode(np.ascontiguousarray(vector, dtype=_LITTLE_FLOAT32).tobytes()).decode("ascii")


def _components(value: object) -> NDArray[Any]:
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, Mapping):
        text = value.get("base64")
        if set(value) != {"base64"} or not isinstance(text, str):
            raise InvalidVector("a vector object holds exactly one field, base64")
        return decode_base64(text)
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise InvalidVector(
            f"expected a vector, not {type(value).__name__}",
            hint='give a list of numbers, a numpy array, or {"base64": "…"} (little-endian float32)',
        )
    if not set(map(type, value)) <= {float, int}:
        _check_numbers(value)
    try:
        return np.asarray(value, dtype=np.float64)
    except OverflowError:
        raise InvalidVector("a component of the vector is too large for float32") from None


def _check_numbers(value: Sequence[object]) -> None:
    # Nearly every vector is plain numbers, which a look at the types alone settles at once.
    for i, number in enumerate(value if not _NUMBERS.issuperset(map(type, value)) else ()):
        if isinstance(number, bool) or not isinstance(number, (int, float, np.integer, np.floating)):
            raise InvalidVector(f"component {i} of the vector is a {type(number).__name__}, not a number")


def check_vector(value: object, dimensions: int, metric: Metric) -> Vector:
    """`value` (list, numpy array, or {"base64"}) as a float32 vector of its own memory, checked: right
    dimension, finite after conversion to float32, and not zero under cosine. Raises InvalidVector."""
    array = _components(value)
    if array.ndim != 1:
        raise InvalidVector(f"a vector has one axis, this has {array.ndim}")
    if array.shape[0] != dimensions:
        raise InvalidVector(
            f"the vector has {array.shape[0]} dimensions, the column has {dimensions}",
            hint=f"give {dimensions} numbers; of an embedding column, by the model that embedded it",
            context={"dimensions": dimensions, "got": array.shape[0]},
        )
    if array.dtype.kind not in "fiu":
        raise InvalidVector(f"a vector holds numbers, not {array.dtype}")
    with np.errstate(over="ignore"):
        vector: Vector = np.array(array, dtype=np.float32, order="C")
        # Of nearly every vector one product tells both: a component that is not finite makes it so, too.
        if 0.0 < float(vector.dot(vector)) < math.inf:
            return vector
    if not np.isfinite(vector).all():
        raise InvalidVector("the vector has a component that is not finite in float32")
    if metric is Metric.COSINE and not vector.any():
        raise InvalidVector("the zero vector has no direction, so no cosine", hint="use another metric")
    return vector


def fill_rows(matrix: Matrix, values: Sequence[object], metric: Metric) -> bool:
    """Puts the stored forms of `values` into `matrix` (their number, dimensions), where all are good numpy
    arrays of one type of number; whether they are. Where not, what `matrix` holds means nothing, and
    `check_vector` says of each what it is."""
    first = values[0] if values else None
    if not isinstance(first, np.ndarray) or first.dtype.kind not in "fiu":
        return False
    form, shape = first.dtype, matrix.shape[1:]
    arrays: Sequence[Any] = values
    for value in arrays:
        if type(value) is not np.ndarray or value.shape != shape:
            return False
        if value.dtype is not form and value.dtype != form:
            return False
    with np.errstate(over="ignore", invalid="ignore"):
        np.concatenate(arrays, out=matrix.reshape(-1), casting="unsafe")
        squares = np.vecdot(matrix, matrix)
    # One look at each component settles nearly all: a sum of squares is finite only where they all are.
    if np.isfinite(squares).all() and (metric is not Metric.COSINE or squares.all()):
        return True
    return bool(np.isfinite(matrix).all() and (metric is not Metric.COSINE or matrix.any(axis=1).all()))


def to_bytes(vector: Vector) -> bytes:
    """Little-endian float32 components: the stored form."""
    return np.ascontiguousarray(vector, dtype=_LITTLE_FLOAT32).tobytes()


def from_bytes(data: bytes) -> Vector:
    """The inverse of `to_bytes` (read-only view where the machine is little-endian)."""
    return np.frombuffer(data, _LITTLE_FLOAT32).astype(np.float32, copy=False)


def stack(vectors: Sequence[bytes], dimensions: int) -> Matrix:
    """Stored vectors as one matrix (n, dimensions), read-only."""
    flat = np.frombuffer(b"".join(vectors), _LITTLE_FLOAT32).astype(np.float32, copy=False)
    return flat.reshape(len(vectors), dimensions)


def normalize(matrix: Matrix) -> Matrix:
    """Rows scaled to Euclidean length 1, computed in float64; zero rows stay zero. A row's result is
    bit-equal alone and among any other rows."""
    wide = np.ascontiguousarray(matrix, dtype=np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    norms[norms == 0] = 1.0
    scaled: Matrix = (wide / norms[:, None]).astype(np.float32)
    return scaled


def distances(query: Vector, matrix: Matrix, metric: Metric) -> NDArray[np.float64]:
    """Distance of each row to `query`, float64, shape (n,): cosine 1 - cos θ; euclidean ‖q - x‖;
    inner_product -(q·x). A row's value is bit-equal alone, among any other rows, and in any memory layout."""
    # vecdot adds up a row in an order that depends on its stride, never on the other rows: hence C order.
    wide_query = np.ascontiguousarray(query, dtype=np.float64)
    wide = np.ascontiguousarray(matrix, dtype=np.float64)
    if metric is Metric.EUCLIDEAN:
        difference = wide - wide_query
        return np.asarray(np.sqrt(np.vecdot(difference, difference)))
    products = np.vecdot(wide, wide_query)
    if metric is Metric.INNER_PRODUCT:
        return np.asarray(0.0 - products)
    lengths = np.sqrt(np.vecdot(wide, wide) * np.vecdot(wide_query, wide_query))
    return np.asarray(1.0 - np.minimum(np.maximum(products / lengths, -1.0), 1.0))


def score_of(distance: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    """Score from distance, higher is better: cosine cos θ in [-1, 1]; euclidean 1 / (1 + d);
    inner_product the product."""
    if metric is Metric.EUCLIDEAN:
        return 1.0 / (1.0 + distance)
    # 0.0 - 0.0 is 0.0, where -0.0 would be shown to people and to clients that tell the two apart.
    return 1.0 - distance if metric is Metric.COSINE else 0.0 - distance


def scores(query: Vector, matrix: Matrix, metric: Metric) -> NDArray[np.float64]:
    """Scores of each row for `query`, float64, shape (n,), by the formulas above."""
    return score_of(distances(query, matrix, metric), metric)
