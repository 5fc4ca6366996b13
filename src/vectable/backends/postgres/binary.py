"""Rows in PostgreSQL's binary COPY format, made column by column."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np

from vectable.backends.postgres.values import encoder
from vectable.core.key import timestamp_micros
from vectable.core.schema import ColumnType

Fields = Iterable[bytes | memoryview]
"""One column's values, each with its length in front."""

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
    """The rows whose columns are given, without `HEADER` and `TRAILER`."""
    head = struct.pack(">h", len(columns))
    return b"".join(chain.from_iterable(zip(repeat(head), *columns, strict=False)))


def texts(values: Iterable[str | None]) -> Fields:
    """Text."""
    return blobs([None if value is None else value.encode() for value in values])


def blobs(values: Iterable[bytes | None]) -> Fields:
    """Bytes."""
    return [_NULL if value is None else _SIZE(len(value)) + value for value in values]


def vectors(values: Sequence[bytes | None], dimensions: int) -> Fields:
    """pgvector's vectors, from little-endian float32 components."""
    size = 4 * dimensions
    whole = [value for value in values if value is not None]
    if any(len(value) != size for value in whole):
        # Not for us to judge: the server says what it thinks of each.
        return [_NULL if value is None else _vector(value) for value in values]
    head = struct.pack(">iHH", _VECTOR_HEAD + size, dimensions, 0)
    swapped = np.frombuffer(b"".join(whole), "<f4").astype(">f4").tobytes()
    fields = iter([head + swapped[at : at + size] for at in range(0, len(swapped), size)])
    return [_NULL if value is None else next(fields) for value in values]


def _vector(value: bytes) -> bytes:
    swapped = np.frombuffer(value, "<f4").astype(">f4").tobytes()
    return struct.pack(">iHH", _VECTOR_HEAD + len(swapped), len(swapped) // 4, 0) + swapped


def _list(oid: int, fields: Callable[[Any], Fields]) -> Callable[[Any], bytes]:
    def made(value: Any) -> bytes:
        if not value:
            return _SIZE(12) + struct.pack(">iiI", 0, 0, oid)
        body = b"".join(fields(value))
        return _SIZE(_LIST.size + len(body)) + _LIST.pack(1, 0, oid, len(value), 1) + body

    return made


def _ints(values: Iterable[int]) -> Fields:
    return [_INT(8, value) for value in values]


def _floats(values: Iterable[float]) -> Fields:
    return [_FLOAT(8, value) for value in values]


_ONE: dict[ColumnType, Callable[[Any], bytes]] = {
    ColumnType.INT: lambda value: _INT(8, value),
    ColumnType.FLOAT: lambda value: _FLOAT(8, value),
    ColumnType.BOOL: lambda value: _TRUE if value else _FALSE,
    ColumnType.TIMESTAMP: lambda value: _INT(8, timestamp_micros(value) - _EPOCH),
    ColumnType.STRINGS: _list(_TEXT_OID, texts),
    ColumnType.INTS: _list(_INT_OID, _ints),
    ColumnType.FLOATS: _list(_FLOAT_OID, _floats),
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
    one = _ONE[type_]
    return [_NULL if value is None else one(value) for value in values]
