"""Values: what each column type accepts, and the one form it is kept in."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vectable.core.schema import LIST_TYPES, Column, ColumnType
from vectable.errors import InvalidInput, TooLarge, VectableError

MAX_TEXT = 64 << 20
"""Characters."""
MAX_IMAGE = 32 << 20
"""Bytes."""
MAX_JSON_DEPTH = 64
_INT64 = 1 << 63


def _refuse(expected: str, value: object, hint: str | None = None) -> InvalidInput:
    return InvalidInput(f"expected {expected}, not {type(value).__name__}", hint=hint)


def check_text(value: object) -> str:
    """Valid UTF-8 without U+0000. Raises InvalidInput, TooLarge."""
    if not isinstance(value, str):
        number = isinstance(value, (int, float))
        raise _refuse("a string", value, 'write it as text, e.g. "7"' if number else None)
    if "\x00" in value:
        raise InvalidInput("text may not hold the character U+0000", hint="leave it out")
    if len(value) > MAX_TEXT:
        raise TooLarge(f"the text is {len(value)} characters long", hint=f"at most {MAX_TEXT} are allowed")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidInput("text holds a lone surrogate, which is not valid UTF-8") from None
    return str(value)


def check_int(value: object) -> int:
    """A 64-bit integer; a float is accepted when it is whole. Raises InvalidInput."""
    if type(value) is int and -_INT64 <= value < _INT64:
        return value
    if isinstance(value, (float, np.floating)) and float(value).is_integer() and abs(float(value)) <= 2**53:
        value = int(value)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise _refuse("an integer", value)
    number = int(value)
    if not -_INT64 <= number < _INT64:
        raise InvalidInput(
            f"{_short(number)} does not fit 64 bits", hint="keep larger numbers in a string or json column"
        )
    return number


def _short(number: int) -> str:
    return str(number) if abs(number) < 10**40 else f"an integer of {number.bit_length()} bits"


def check_float(value: object) -> float:
    """A finite 64-bit float. Raises InvalidInput."""
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise _refuse("a number", value)
    try:
        number = float(value)
    except OverflowError:
        raise InvalidInput("the number is too large for a 64-bit float") from None
    if not math.isfinite(number):
        raise InvalidInput(f"{number} is not a finite number", hint="use null for a missing number")
    return number


def check_bool(value: object) -> bool:
    """true or false, nothing that merely looks like it. Raises InvalidInput."""
    if not isinstance(value, (bool, np.bool_)):
        raise _refuse("true or false", value)
    return bool(value)


def check_timestamp(value: object) -> dt.datetime:
    """A moment in UTC, exact to the microsecond, from an aware datetime or RFC 3339 text.
    Raises InvalidInput."""
    if isinstance(value, str):
        text = value
        try:
            value = dt.datetime.fromisoformat(text)
        except ValueError:
            raise InvalidInput(
                f"{text[:40]!r} is not a timestamp", hint="write RFC 3339, e.g. 2026-01-31T12:00:00Z"
            ) from None
    if not isinstance(value, dt.datetime):
        raise _refuse("a timestamp", value, "write RFC 3339, e.g. 2026-01-31T12:00:00Z")
    if value.tzinfo is None:
        raise InvalidInput(f"{value.isoformat()} has no time zone", hint="add one, e.g. …T12:00:00Z")
    try:
        moment = value.astimezone(dt.UTC)
    except OverflowError:
        raise InvalidInput("the timestamp is outside the years 1 to 9999 in UTC") from None
    return dt.datetime.combine(moment.date(), moment.time(), dt.UTC)


def check_json(value: object, depth: int = 0) -> Any:
    """A JSON value: finite numbers, text as in `check_text`, at most 64 levels. Raises InvalidInput."""
    if depth > MAX_JSON_DEPTH:
        raise InvalidInput(f"the JSON value is nested deeper than {MAX_JSON_DEPTH} levels")
    if value is None or isinstance(value, (bool, np.bool_)):
        return None if value is None else bool(value)
    if isinstance(value, str):
        return check_text(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return check_float(value)
    if isinstance(value, Mapping):
        return {check_text(k): check_json(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [check_json(v, depth + 1) for v in value]
    raise _refuse("a JSON value", value)


def check_image(value: object) -> bytes:
    """An encoded image (its bytes), from bytes, {"base64": …} or a data: URI.
    Raises InvalidInput, TooLarge."""
    if isinstance(value, Mapping) and set(value) == {"base64"}:
        value = value["base64"]
    elif isinstance(value, str) and value.startswith("data:") and ";base64," in value[:200]:
        value = value.split(";base64,", 1)[1]
    elif isinstance(value, str) and value.startswith("data:"):
        raise InvalidInput("the data: URI holds no base64", hint="write it as data:image/png;base64,…")
    elif not isinstance(value, (bytes, bytearray, memoryview)):
        raise _refuse("an image", value, 'give its bytes, {"base64": "…"} or a data: URI')
    if isinstance(value, str):
        try:
            value = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidInput("the image is not valid base64") from None
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise _refuse("base64 text", value)
    if len(value) > MAX_IMAGE:
        raise TooLarge(f"the image has {len(value)} bytes", hint=f"at most {MAX_IMAGE} are allowed")
    if not value:
        raise InvalidInput("the image is empty")
    return bytes(value)


_CHECKS: dict[ColumnType, Callable[[object], Any]] = {
    ColumnType.STRING: check_text,
    ColumnType.INT: check_int,
    ColumnType.FLOAT: check_float,
    ColumnType.BOOL: check_bool,
    ColumnType.TIMESTAMP: check_timestamp,
    ColumnType.JSON: check_json,
    ColumnType.IMAGE: check_image,
}


def value_check(type_: ColumnType) -> Callable[[object], Any]:
    """The check of a stored column type (not vector): a value, never None, in; its kept form out.
    It raises InvalidInput or TooLarge."""
    element = LIST_TYPES.get(type_)
    if element is None:
        return _CHECKS[type_]
    check = _CHECKS[element]

    def check_list(value: object) -> list[Any]:
        if isinstance(value, str) or not isinstance(value, (list, tuple, np.ndarray)):
            raise _refuse(f"a list of {element.value} values", value)
        try:
            return [check(v) for v in value]
        except (InvalidInput, TooLarge):
            raise _bad_member(value, check) from None

    return check_list


def all_kept(type_: ColumnType, values: Sequence[object]) -> bool:
    """Whether each of many values of a stored column is null or good, and in its kept form already. False
    says nothing: then `value_check` says of each what it is."""
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return True
    if kinds != {_PLAIN.get(type_)}:
        return False
    present: Any = [value for value in values if value is not None]
    if type_ is ColumnType.INT:
        return bool(min(present) >= -_INT64 and max(present) < _INT64)
    if type_ is ColumnType.FLOAT:
        return all(map(math.isfinite, present))
    return type_ is ColumnType.BOOL or _all_texts(present)


def _all_texts(values: Sequence[str]) -> bool:
    whole = "".join(values)
    if "\x00" in whole or len(max(values, key=len)) > MAX_TEXT:
        return False
    try:
        return whole.isascii() or bool(whole.encode("utf-8"))
    except UnicodeEncodeError:
        return False


_PLAIN: dict[ColumnType, type] = {
    ColumnType.STRING: str,
    ColumnType.INT: int,
    ColumnType.FLOAT: float,
    ColumnType.BOOL: bool,
}


def _bad_member(values: Iterable[object], check: Callable[[object], Any]) -> VectableError:
    """The error of the first member that does not pass, with its position."""
    for position, value in enumerate(values):
        try:
            check(value)
        except (InvalidInput, TooLarge) as error:
            hint = "a list holds no nulls; the whole list may be null" if value is None else error.hint
            return type(error)(f"member {position}: {error.detail}", hint=hint)
    return InvalidInput("the list changed while it was read")


def written_default(column: Column) -> Any:
    """The column's default as definitions keep it, in JSON: moments as RFC 3339, images as base64.
    Raises InvalidInput."""
    default = check_default(column)
    if isinstance(default, dt.datetime):
        return default.isoformat().replace("+00:00", "Z")
    return {"base64": base64.b64encode(default).decode()} if isinstance(default, bytes) else default


def check_default(column: Column) -> Any:
    """The column's default in its kept form. Raises InvalidInput."""
    if column.default is None:
        return None
    if column.type is ColumnType.VECTOR:
        raise InvalidInput(f"column {column.name!r}: a vector column has no default")
    return value_check(column.type)(column.default)
