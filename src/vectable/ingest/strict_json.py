"""JSON from strangers: parsed fast, and refused with a precise sentence wherever it is not exactly JSON.

What lenient parsers let through is refused here: NaN and Infinity, numbers no 64 bits can hold, repeated
names, lone surrogates, nesting without end.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import orjson

from vectable.errors import InvalidInput

MAX_DEPTH = 200
"""Levels of arrays and objects."""
_CONTAINERS = frozenset({dict, list})
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_LONG_INTEGER = re.compile(rb"(?:\A|[\[,:\s])-?[0-9]{19}")
_ZEROED = bytes(ord("0") if 48 <= byte <= 57 else byte for byte in range(256))
_LONG = b"0" * 19
_SHOWN = 40


def parse_json(data: bytes, what: str = "the body") -> Any:
    """The value of `data`, UTF-8 encoded JSON. Integers are exact (64 bits), floats finite, names unique.
    Raises InvalidInput that says what is wrong with `what`, and where."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        _explain(data, what, error)
    pairs = _count_pairs(value, what)
    suspicious = data.count(b":") != pairs and _STRING.sub(b"", data).count(b":") != pairs
    if suspicious or (_LONG in data.translate(_ZEROED) and _LONG_INTEGER.search(data)):
        _reread(data.decode(), what)
    return value


def _count_pairs(value: Any, what: str) -> int:
    """Names in all objects; as many as colons, unless one was repeated."""
    pairs = 0
    level = [value] if type(value) in _CONTAINERS else []
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            _too_deep(what)
        deeper: list[Any] = []
        for node in level:
            if type(node) is dict:
                pairs += len(node)
                deeper.extend(child for child in node.values() if type(child) in _CONTAINERS)
            elif type(node) is list and not _CONTAINERS.isdisjoint(map(type, node)):
                deeper.extend(child for child in node if type(child) in _CONTAINERS)
        level = deeper
    return pairs


def _too_deep(what: str) -> NoReturn:
    raise InvalidInput(f"{what} is nested deeper than {MAX_DEPTH} levels")


def _integer(text: str) -> int:
    # The text of a number longer than this is never converted: that takes quadratic time.
    number = int(text) if len(text) <= 21 else 1 << 70
    if not -(1 << 63) <= number < 1 << 64:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        raise InvalidInput(f"the integer {shown} does not fit 64 bits", hint="send it as a string")
    return number


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        raise InvalidInput(f"the number {shown} is too large for a 64-bit float")
    return number


def _constant(text: str) -> NoReturn:
    raise InvalidInput(f"{text} is not JSON", hint="numbers are finite; write null for a missing one")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"the name {twice[:_SHOWN]!r} occurs twice in one object")
    return found


def _reread(text: str, what: str) -> Any:
    """`text` by the strict hooks, which name what is wrong. Slow, so only where something looks wrong."""
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_int=_integer, parse_float=_float, parse_constant=_constant
        )
    except RecursionError:
        _too_deep(what)
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"{what} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None


def _explain(data: bytes, what: str, error: orjson.JSONDecodeError) -> NoReturn:
    if not data.strip():
        raise InvalidInput(f"{what} is empty where JSON was expected")
    if data.startswith(b"\xef\xbb\xbf"):
        raise InvalidInput(f"{what} starts with a byte order mark", hint="send UTF-8 without one")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as wrong:
        raise InvalidInput(f"{what} is not UTF-8: byte {wrong.start} cannot be read") from None
    if "depth limit" in error.msg:
        _too_deep(what)
    _reread(text, what)
    if "surrogate" in error.msg:
        raise InvalidInput(
            f"{what} holds a lone surrogate at line {error.lineno}, column {error.colno}",
            hint="characters beyond U+FFFF are written as a pair, e.g. \\ud83d\\ude00",
        )
    raise InvalidInput(f"{what} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}")
