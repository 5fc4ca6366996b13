"""Which of our types a column of PostgreSQL has, and the SQL that reads it as such.

What has no meaning of its own here (an interval, a range, a geometry) is readable as PostgreSQL's own text.
What our type cannot hold is null: NaN and the infinities among numbers, `infinity` among moments. Null
members of arrays are left out. A key is read exactly or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vectable.core.schema import ColumnType

Reading = Callable[[str], str]
"""From an expression of the column to one of our type's storage."""

_FIRST, _LAST = "timestamptz '0001-01-01 00:00:00+00'", "timestamptz '9999-12-31 23:59:59.999999+00'"
_LARGEST, _SMALLEST = "1.7976931348623157e308", "2.3e-308"
_INTS = frozenset({"int2", "int4", "int8"})
_TEXTS = frozenset({"text", "varchar"})
_FLOATS = frozenset({"float4", "float8"})
_JSONS = frozenset({"json", "jsonb"})


@dataclass(frozen=True, slots=True)
class Mapped:
    """Our type of a column, how it is read, and how as part of a key (always exact and not null)."""

    type: ColumnType
    read: Reading
    key_type: ColumnType
    read_key: Reading


def mapped(
    base: str, *, array: bool = False, scale: int | None = None, precision: int | None = None
) -> Mapped:
    """How a column of the built-in or other type `base` (domains resolved; of an array its members' type) is
    read. `precision` and `scale` are those of a numeric."""
    if array:
        return Mapped(*_array(base), ColumnType.STRING, _text)
    whole = base == "numeric" and scale == 0 and precision is not None and precision <= 18
    if base in _INTS or base == "oid" or whole:
        read = _plain if base in _INTS else _cast("bigint")
        return Mapped(ColumnType.INT, read, ColumnType.INT, read)
    if base in _TEXTS:
        return Mapped(ColumnType.STRING, _cast("text"), ColumnType.STRING, _cast("text"))
    if base in ("timestamptz", "timestamp"):
        moment = _plain if base == "timestamptz" else _at_utc
        return Mapped(ColumnType.TIMESTAMP, lambda x: _within(moment(x)), ColumnType.TIMESTAMP, moment)
    if base == "bool":
        return Mapped(ColumnType.BOOL, _plain, ColumnType.STRING, _text)
    if base in _FLOATS:
        return Mapped(ColumnType.FLOAT, _finite, ColumnType.STRING, lambda x: f"({x} + 0)::text")
    if base == "numeric":
        return Mapped(ColumnType.FLOAT, _number, ColumnType.STRING, lambda x: f"trim_scale({x})::text")
    if base in _JSONS:
        return Mapped(ColumnType.JSON, _json(base), ColumnType.STRING, _text)
    if base == "bytea":
        return Mapped(ColumnType.IMAGE, _plain, ColumnType.STRING, lambda x: f"encode({x}, 'hex')")
    if base in ("vector", "halfvec"):
        return Mapped(
            ColumnType.FLOATS, lambda x: f"({x}::real[])::double precision[]", ColumnType.STRING, _text
        )
    return Mapped(ColumnType.STRING, _text, ColumnType.STRING, _text)


def _plain(x: str) -> str:
    return x


def _cast(type_: str) -> Reading:
    return lambda x: f"{x}::{type_}"


def _text(x: str) -> str:
    return f"{x}::text"


def _at_utc(x: str) -> str:
    return f"({x} AT TIME ZONE 'UTC')"


def _within(moment: str) -> str:
    return f"CASE WHEN {moment} BETWEEN {_FIRST} AND {_LAST} THEN {moment} END"


def _finite(x: str) -> str:
    return f"CASE WHEN {x} NOT IN ('NaN', 'Infinity', '-Infinity') THEN {x}::double precision END"


def _number(x: str) -> str:
    """The nearest double: PostgreSQL raises where there is none, and for what is too small to be one."""
    return (
        f"CASE WHEN abs({x}) BETWEEN {_SMALLEST} AND {_LARGEST} THEN {x}::double precision"
        f" WHEN abs({x}) < {_SMALLEST} THEN 0::double precision END"
    )


def _json(base: str) -> Reading:
    return _plain if base == "jsonb" else _cast("jsonb")


def _array(member: str) -> tuple[ColumnType, Reading]:
    if member in _INTS or member == "oid":
        return ColumnType.INTS, lambda x: _members(x, "bigint", _cast("bigint"))
    if member in _FLOATS:
        return ColumnType.FLOATS, lambda x: _members(x, "double precision", _finite)
    if member == "numeric":
        return ColumnType.FLOATS, lambda x: _members(x, "double precision", _number)
    return ColumnType.STRINGS, lambda x: _members(x, "text", _text)


def _members(array: str, type_: str, read: Reading) -> str:
    """Members in order, those of all dimensions, without nulls."""
    return (
        f"CASE WHEN {array} IS NOT NULL THEN ARRAY(SELECT r FROM (SELECT {read('m')} AS r, o"
        f" FROM unnest({array}) WITH ORDINALITY AS u (m, o)) AS x WHERE r IS NOT NULL ORDER BY o)"
        f"::{type_}[] END"
    )
