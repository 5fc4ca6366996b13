"""Literals of filters: how they are taken in, compared for equality, and shown in messages."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import Any

from vectable.errors import InvalidFilter

MAX_VALUE_DEPTH = 64
"""Nesting of lists and objects inside one literal."""


def frozen_value(value: Any) -> Any:
    """A hashable stand-in: two values have equal stand-ins exactly when they are equal in a filter. Numbers
    compare by value (1 = 1.0), a bool is not a number, lists and objects compare deeply."""
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, (list, tuple)):
        return (list, *(frozen_value(v) for v in value))
    if isinstance(value, Mapping):
        return (dict, frozenset((k, frozen_value(v)) for k, v in value.items()))
    return value


def shown(value: Any) -> str:
    """`value` for an error message: short, and safe for integers of any size."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, str) and len(value) > 60:
        return repr(value[:57] + "…")
    if isinstance(value, (list, tuple, dict)):
        return f"a {'list' if not isinstance(value, dict) else 'object'} of {len(value)}"
    return repr(value) if value is None or isinstance(value, (str, int, float)) else type(value).__name__


def check_text(text: str, what: str) -> str:
    """`text` without U+0000 and lone surrogates, as a plain str. Raises InvalidFilter otherwise."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidFilter(f"{what} holds a lone surrogate", hint="text must be valid Unicode") from None
    if "\x00" in text:
        raise InvalidFilter(f"{what} holds U+0000", hint="text may hold any other character")
    return text if type(text) is str else str.__str__(text)


def plain_value(value: Any, what: str) -> Any:
    """`value` as str, int, float, bool, datetime with a zone, list, dict or None; numpy values are unpacked.
    Raises InvalidFilter for anything else, for floats that are not finite, and for nesting beyond 64."""
    return _plain(value, what, 0)


def _plain(value: Any, what: str, depth: int) -> Any:
    if isinstance(value, str):
        return check_text(value, what)
    if value is None or type(value) is bool or type(value) is int:
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidFilter(f"{what} is {value!r}", hint="numbers are finite")
        return float(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, dt.datetime):
        return _plain_moment(value, what)
    if depth >= MAX_VALUE_DEPTH:
        raise InvalidFilter(f"{what} is nested more than {MAX_VALUE_DEPTH} deep")
    if isinstance(value, (list, tuple)):
        return [_plain(v, what, depth + 1) for v in value]
    if isinstance(value, Mapping):
        return {_plain_name(k, what): _plain(v, what, depth + 1) for k, v in value.items()}
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return _plain(value.tolist(), what, depth + 1)
    raise InvalidFilter(
        f"{what} is a {type(value).__name__}",
        hint="use a string, number, bool, datetime with a time zone, list or object",
    )


def _plain_name(name: Any, what: str) -> str:
    if not isinstance(name, str):
        raise InvalidFilter(f"{what} holds an object with a key that is no string")
    return check_text(name, what)


def _plain_moment(value: dt.datetime, what: str) -> dt.datetime:
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidFilter(
            f"{what} {value.isoformat()} has no time zone",
            hint="give a time zone, e.g. 2026-01-31T12:00:00Z",
        )
    return utc(value, what)


def utc(value: dt.datetime, what: str) -> dt.datetime:
    """The same moment in UTC, to the microsecond. Raises InvalidFilter outside the years 1 to 9999."""
    try:
        moment = value.astimezone(dt.UTC)
    except OverflowError:
        raise InvalidFilter(f"{what} lies outside the years 1 to 9999 in UTC") from None
    return dt.datetime(
        moment.year,
        moment.month,
        moment.day,
        moment.hour,
        moment.minute,
        moment.second,
        moment.microsecond,
        tzinfo=dt.UTC,
    )
