"""How values of each column type are kept in PostgreSQL, and read back exactly."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

from vectable.core.schema import ColumnType

Convert = Callable[[Any], Any]

DECLARED: dict[ColumnType, str] = {
    # The order of code points, whatever the database's own is.
    ColumnType.STRING: 'text COLLATE "C"',
    ColumnType.INT: "bigint",
    ColumnType.FLOAT: "double precision",
    ColumnType.BOOL: "boolean",
    ColumnType.TIMESTAMP: "timestamptz",
    # Not jsonb: it writes 1e308 out as an integer and forgets the order of keys, which templates show.
    ColumnType.JSON: "json",
    ColumnType.STRINGS: 'text[] COLLATE "C"',
    ColumnType.INTS: "bigint[]",
    ColumnType.FLOATS: "double precision[]",
    ColumnType.IMAGE: "bytea",
}
CASTS: dict[ColumnType, str] = {type_: sql.split(" COLLATE")[0] for type_, sql in DECLARED.items()}
"""The same as a cast takes them."""


def _json_text(value: Any) -> str:
    # Not orjson: integers may be longer than 64 bits.
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _utc(value: dt.datetime) -> dt.datetime:
    # The last moment of the year 9999 is the driver's infinity, which it reads back without a zone.
    return value if value.tzinfo is dt.UTC else value.replace(tzinfo=dt.UTC)


_ENCODE: dict[ColumnType, Convert] = {ColumnType.JSON: _json_text}
_DECODE: dict[ColumnType, Convert] = {ColumnType.JSON: json.loads, ColumnType.TIMESTAMP: _utc}


def encoder(type_: ColumnType) -> Convert | None:
    """What turns a value (not None) into what the driver takes; None: nothing needs to be done."""
    return _ENCODE.get(type_)


def decoder(type_: ColumnType) -> Convert | None:
    """The inverse of `encoder`."""
    return _DECODE.get(type_)
