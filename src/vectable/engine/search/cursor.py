"""Cursors: where a page ended, as opaque text that only the query it came from accepts."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from vectable.core.key import KeyBytes, micros_timestamp, timestamp_micros
from vectable.errors import InvalidCursor

_VERSION = 1
_MAX_LENGTH = 1 << 16
_MAX_TEXT = 200
_HINT = "send back next_cursor unchanged, with the query it came from"


@dataclass(frozen=True, slots=True)
class Elided:
    """A text too long for a cursor, named by its digest: the row is asked for it again."""

    digest: str

    @classmethod
    def of(cls, text: str) -> Elided:
        return cls(blake3(text.encode()).hexdigest(12))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: the values of the order's terms in its last row, and that row's key. `mark` and
    `version` are pinned by similarity queries only."""

    values: tuple[Any, ...]
    key: KeyBytes
    mark: str | None = None
    version: str | None = None


def fingerprint(*parts: bytes | str) -> str:
    """Names a query: what must be the same for a cursor of it to be accepted."""
    digest = blake3()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest(9)


def encode_cursor(place: Place, query: str) -> str:
    """URL-safe text. `query` is the query's fingerprint."""
    values = [_plain(v) for v in place.values]
    key = base64.b64encode(place.key).decode()
    body = json.dumps(
        [_VERSION, query, values, key, place.mark, place.version], separators=(",", ":")
    ).encode()
    return base64.urlsafe_b64encode(blake3(body).digest(6) + body).rstrip(b"=").decode()


def decode_cursor(text: str, query: str, terms: int) -> Place:
    """The inverse, for a query of that fingerprint ordered by so many terms. Raises InvalidCursor."""
    if not isinstance(text, str) or len(text) > _MAX_LENGTH:
        raise InvalidCursor("the cursor is damaged", hint=_HINT)
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        if blake3(raw[6:]).digest(6) != raw[:6]:
            raise ValueError("checksum")
        version, of, values, key, mark, pinned = json.loads(raw[6:])
        place = Place(tuple(_value(v) for v in values), base64.b64decode(key), mark, pinned)
    except (ValueError, TypeError, binascii.Error, RecursionError, OverflowError):
        raise InvalidCursor("the cursor is damaged", hint=_HINT) from None
    if version != _VERSION or of != query or len(place.values) != terms:
        raise InvalidCursor("the cursor belongs to another query", hint=_HINT)
    return place


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return {"t": timestamp_micros(value)}
    if isinstance(value, float):
        return {"f": value.hex()}
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        return {"d": Elided.of(value).digest}
    return value


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        if "t" in value:
            return micros_timestamp(value["t"])
        if "d" in value:
            return Elided(str(value["d"]))
        return float.fromhex(value["f"])
    if isinstance(value, list):
        raise TypeError(value)
    return value
