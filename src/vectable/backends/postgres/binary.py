"""Rows in PostgreSQL's binary COPY format, made column by column."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectable.backends.postgres.values import encoder
from vectable.core.key import timestamp_micros
from vectable.core.puts import Stored, StoredVectors
from vectable.core.schema import ColumnType
from vectable.core.vectors import Matrix

Part = bytes | Iterable[bytes]
"""A piece of each row, or one piece that is in every row."""
Fields = Sequence[Part]
"""One column's values, each with its length in front: for each row the pieces one after the other."""

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_SIZE = struct.Struct(">i").pack
_INT, _FLOAT = struct.Struct(">iq").pack, struct.Struct(">id").pack
_LIST = struct.Struct(">iiIii")
_TRUE, _FALSE = b"\0\0\0\1\1", b"\0\0\0\1\0"
_EPOCH = 946_684_800_000_000
"""2000-01-01, from which the server counts, in microseconds since 1970."""
_TEXT_OID, _INT_OID, _FLOAT_OID = 25, 20, 701
_VECTOR_HEAD = 4


def records(columns: Sequence[Fields]) -> bytes:
    """The rows whose columns are given, without `HEADER` and `TRAILER`. One column at least must not be the
    same in every row."""
    parts: list[Part] = [struct.pack(">h", len(columns))]
    for part in chain.from_iterable(columns):
        if isinstance(part, bytes) and isinstance(parts[-1], bytes):
            parts[-1] += part
        else:
            parts.append(part)
    every = (repeat(part) if isinstance(part, bytes) else part for part in parts)
    return b"".join(chain.from_iterable(zip(*every, strict=False)))


def records_alike(keys: Sequence[bytes], between: bytes, matrix: Matrix) -> memoryview | None:
    """`records` of four columns: a key, two that are the same in every row (`between`, with their lengths),
    and a vector. None where the keys are not equally long: then rows cannot be laid out as a matrix."""
    if len(set(map(len, keys))) != 1:
        return None
    size, dimensions = len(keys[0]), matrix.shape[1]
    head = struct.pack(">hi", 4, size)
    between += struct.pack(">iHH", _VECTOR_HEAD + 4 * dimensions, dimensions, 0)
    form = [
        ("head", f"V{len(head)}"),
        ("key", f"V{size}"),
        ("between", f"V{len(between)}"),
        ("vector", ">f4", (dimensions,)),
    ]
    rows = np.empty(len(keys), form)
    rows["head"], rows["between"], rows["vector"] = np.void(head), np.void(between), matrix
    rows["key"] = np.frombuffer(b"".join(keys), f"V{size}")
    return rows.view(np.uint8).data


def texts(values: Iterable[str | None]) -> Fields:
    """Text."""
    return blobs([None if value is None else value.encode() for value in values])


def blobs(values: Sequence[bytes | None]) -> Fields:
    """Bytes."""
    if None in values:
        return [[_NULL if value is None else _SIZE(len(value)) + value for value in values]]
    whole: Any = values
    sizes = set(map(len, whole))
    return [_SIZE(sizes.pop()) if len(sizes) == 1 else map(_SIZE, map(len, whole)), whole]


def alike(value: bytes) -> bytes:
    """`blobs` of a column that holds the same in every row, once."""
    return _SIZE(len(value)) + value


def vectors(values: Stored, dimensions: int) -> Fields:
    """pgvector's vectors, from little-endian float32 components."""
    size = 4 * dimensions
    head = struct.pack(">iHH", _VECTOR_HEAD + size, dimensions, 0)
    if isinstance(values, StoredVectors) and values.present is None:
        return [head, _swapped(values.matrix, size)]
    whole = [value for value in values if value is not None]
    if any(len(value) != size for value in whole):
        # Not for us to judge: the server says what it thinks of each.
        return [[_NULL if value is None else _vector(value) for value in values]]
    swapped = iter(_swapped(np.frombuffer(b"".join(whole), "<f4"), size))
    return [[_NULL if value is None else head + next(swapped) for value in values]]


def _swapped(components: NDArray[np.float32], size: int) -> list[bytes]:
    swapped = components.astype(">f4").tobytes()
    return [swapped[at : at + size] for at in range(0, len(swapped), size)]


def _vector(value: bytes) -> bytes:
    swapped = np.frombuffer(value, "<f4").astype(">f4").tobytes()
    return struct.pack(">iHH", _VECTOR_HEAD + len(swapped), len(swapped) // 4, 0) + swapped


def _list(oid: int, member: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    def made(value: Any) -> bytes:
        if not value:
            return _SIZE(12) + struct.pack(">iiI", 0, 0, oid)
        body = b"".join(map(member, value))
        return _SIZE(_LIST.size + len(body)) + _LIST.pack(1, 0, oid, len(value), 1) + body

    return made


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _SIZE(len(encoded)) + encoded


def _int(value: int) -> bytes:
    return _INT(8, value)


def _float(value: float) -> bytes:
    return _FLOAT(8, value)


_ONE: dict[ColumnType, Callable[[Any], bytes]] = {
    ColumnType.BOOL: lambda value: _TRUE if value else _FALSE,
    ColumnType.TIMESTAMP: lambda value: _INT(8, timestamp_micros(value) - _EPOCH),
    ColumnType.STRINGS: _list(_TEXT_OID, _text),
    ColumnType.INTS: _list(_INT_OID, _int),
    ColumnType.FLOATS: _list(_FLOAT_OID, _float),
}
_NUMBERS: dict[ColumnType, tuple[bytes, Callable[[Any], bytes]]] = {
    ColumnType.INT: (_SIZE(8), struct.Struct(">q").pack),
    ColumnType.FLOAT: (_SIZE(8), struct.Struct(">d").pack),
}


def fields(type_: ColumnType, values: Sequence[Any]) -> Fields:
    """Values of a stored column, as the core keeps them. Raises UnicodeError for what is not UTF-8."""
    if type_ is ColumnType.STRING:
        return texts(values)
    if type_ is ColumnType.IMAGE:
        return blobs(values)
    if type_ is ColumnType.JSON:
        convert = encoder(type_)
        return texts([None if v is None or convert is None else convert(v) for v in values])
    if type_ in _NUMBERS:
        size, pack = _NUMBERS[type_]
        if None in values:
            return [[_NULL if value is None else size + pack(value) for value in values]]
        return [size, map(pack, values)]
    one = _ONE[type_]
    return [[_NULL if value is None else one(value) for value in values]]
