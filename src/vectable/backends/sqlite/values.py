"""How values of each column type are kept in SQLite, and read back exactly."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import orjson

from vectable.core.key import micros_timestamp, timestamp_micros
from vectable.core.schema import ColumnType

Convert = Callable[[Any], Any]

DECLARED: dict[ColumnType, str] = {
    ColumnType.STRING: "TEXT",
    ColumnType.INT: "INTEGER",
    # No type: under REAL, SQLite would lose the sign of -0.0.
    ColumnType.FLOAT: "",
    ColumnType.BOOL: "INTEGER",
    ColumnType.TIMESTAMP: "INTEGER",
    ColumnType.JSON: "TEXT",
    ColumnType.STRINGS: "TEXT",
    ColumnType.INTS: "TEXT",
    ColumnType.FLOATS: "TEXT",
    ColumnType.IMAGE: "BLOB",
}


def _json_text(value: Any) -> str:
    # Not orjson: integers may be longer than 64 bits.
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _list_text(value: list[Any]) -> str:
    return orjson.dumps(value).decode()


def _micros(value: dt.datetime) -> int:
    return timestamp_micros(value)


_ENCODE: dict[ColumnType, Convert] = {
    ColumnType.TIMESTAMP: _micros,
    ColumnType.BOOL: int,
    ColumnType.JSON: _json_text,
    ColumnType.STRINGS: _list_text,
    ColumnType.INTS: _list_text,
    ColumnType.FLOATS: _list_text,
}
_DECODE: dict[ColumnType, Convert] = {
    ColumnType.TIMESTAMP: micros_timestamp,
    ColumnType.BOOL: bool,
    ColumnType.JSON: json.loads,
    ColumnType.STRINGS: orjson.loads,
    ColumnType.INTS: orjson.loads,
    ColumnType.FLOATS: orjson.loads,
}


def encoder(type_: ColumnType) -> Convert | None:
    """What turns a value (not None) into what SQLite stores; None: nothing needs to be done."""
    return _ENCODE.get(type_)


def decoder(type_: ColumnType) -> Convert | None:
    """The inverse of `encoder`."""
    return _DECODE.get(type_)
