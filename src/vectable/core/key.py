"""Keys: tuples of parts with one order-preserving byte encoding and one URL form.

Encoding (own, in the spirit of FoundationDB's tuple layer): each part is a tag byte and a body; comparing two
encodings byte by byte orders them like the tuples of their parts.

| part | tag | body |
|---|---|---|
| bytes | 0x01 | content with 00 escaped as 00 FF, closed by 00 |
| str | 0x02 | UTF-8 with 00 escaped as 00 FF, closed by 00 (byte order of UTF-8 = code point order) |
| int | 0x10 | 8 bytes big-endian of value + 2^63 |
| timestamp | 0x20 | 8 bytes big-endian of microseconds since 1970-01-01 UTC + 2^63 |
| date | 0x21 | 4 bytes big-endian of the proleptic ordinal |
| uuid | 0x30 | its 16 bytes |
"""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from collections.abc import Iterable
from urllib.parse import quote, unquote

from vectable.errors import InvalidInput

_ALLOWED = "a key part is an int, str, uuid, bytes, date or timestamp"
KeyPart = int | str | bytes | uuid.UUID | dt.date | dt.datetime
Key = tuple[KeyPart, ...]
KeyBytes = bytes
"""An encoded key: the identity of a row everywhere below the public API."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FIRST_MICROS = (dt.datetime.min.replace(tzinfo=dt.UTC) - _EPOCH) // dt.timedelta(microseconds=1)
_LAST_MICROS = (dt.datetime.max.replace(tzinfo=dt.UTC) - _EPOCH) // dt.timedelta(microseconds=1)
_BIAS = 1 << 63
_MAX_BYTES = 1_024


def timestamp_micros(value: dt.datetime) -> int:
    """Microseconds since 1970-01-01 UTC, exact. Raises InvalidInput for a naive datetime, and for one outside
    the years 1 to 9999 in UTC."""
    if value.utcoffset() is None:
        raise InvalidInput(
            f"{value.isoformat()} has no time zone", hint="give a time zone, e.g. 2026-01-31T12:00:00Z"
        )
    delta = value - _EPOCH
    micros = (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
    if not _FIRST_MICROS <= micros <= _LAST_MICROS:
        raise InvalidInput(f"{value.isoformat()} lies outside the years 1 to 9999 in UTC")
    return micros


def micros_timestamp(micros: int) -> dt.datetime:
    """The inverse of `timestamp_micros`."""
    return _EPOCH + dt.timedelta(microseconds=micros)


def _escaped(tag: bytes, body: bytes) -> bytes:
    return tag + body.replace(b"\x00", b"\x00\xff") + b"\x00"


def _encode_part(part: object) -> bytes:
    if isinstance(part, str):
        return _escaped(b"\x02", part.encode("utf-8"))
    if isinstance(part, bool):
        raise InvalidInput("a bool cannot be part of a key", hint=_ALLOWED)
    if isinstance(part, int):
        if not -_BIAS <= part < _BIAS:
            raise InvalidInput(f"a key part of {part.bit_length()} bits does not fit 64 bits")
        return b"\x10" + struct.pack(">Q", part + _BIAS)
    if isinstance(part, bytes):
        return _escaped(b"\x01", part)
    if isinstance(part, uuid.UUID):
        return b"\x30" + part.bytes
    if isinstance(part, dt.datetime):
        return b"\x20" + struct.pack(">Q", timestamp_micros(part) + _BIAS)
    if isinstance(part, dt.date):
        return b"\x21" + struct.pack(">I", part.toordinal())
    raise InvalidInput(f"a {type(part).__name__} cannot be part of a key", hint=_ALLOWED)


def encode_key(key: Key) -> KeyBytes:
    """The order-preserving encoding of `key`, at most 1,024 bytes. Raises InvalidInput."""
    if not key:
        raise InvalidInput("a key needs at least one part")
    try:
        encoded = _encode_part(key[0]) if len(key) == 1 else b"".join(map(_encode_part, key))
    except UnicodeEncodeError:
        raise InvalidInput("a key holds text that is not valid UTF-8") from None
    if len(encoded) > _MAX_BYTES:
        raise InvalidInput(f"the key is {len(encoded)} bytes long", hint=f"at most {_MAX_BYTES} are allowed")
    return encoded


def encode_texts(texts: Iterable[str]) -> list[KeyBytes]:
    """`encode_key` of many keys of one part each: text without U+0000. Raises InvalidInput."""
    encoded = [b"\x02%b\x00" % text.encode() for text in texts]
    if encoded and len(max(encoded, key=len)) > _MAX_BYTES:
        raise InvalidInput("a key is too long", hint=f"at most {_MAX_BYTES} bytes are allowed")
    return encoded


def _unescape(data: bytes, start: int) -> tuple[bytes, int]:
    end = start
    while True:
        end = data.index(b"\x00", end)
        if data[end + 1 : end + 2] != b"\xff":
            return data[start:end].replace(b"\x00\xff", b"\x00"), end + 1
        end += 2


def _decode_part(data: bytes, at: int) -> tuple[KeyPart, int]:
    tag = data[at]
    if tag == 0x02:
        body, at = _unescape(data, at + 1)
        return body.decode("utf-8"), at
    if tag == 0x01:
        return _unescape(data, at + 1)
    if tag in (0x10, 0x20):
        number = int.from_bytes(_exactly(data, at + 1, 8), "big") - _BIAS
        return (number if tag == 0x10 else micros_timestamp(number)), at + 9
    if tag == 0x21:
        return dt.date.fromordinal(int.from_bytes(_exactly(data, at + 1, 4), "big")), at + 5
    if tag == 0x30:
        return uuid.UUID(bytes=_exactly(data, at + 1, 16)), at + 17
    raise ValueError(tag)


def _exactly(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError("truncated")
    return data[at : at + size]


def decode_key(data: KeyBytes) -> Key:
    """The inverse of `encode_key`. Raises InvalidInput when `data` is not an encoded key."""
    parts: list[KeyPart] = []
    at = 0
    if not data:
        raise InvalidInput("this is not an encoded key")
    try:
        while at < len(data):
            part, at = _decode_part(data, at)
            parts.append(part)
    except (ValueError, IndexError, OverflowError):
        raise InvalidInput("this is not an encoded key") from None
    return tuple(parts)


def _url_part(part: KeyPart) -> str:
    if isinstance(part, bytes):
        return part.hex()
    if isinstance(part, dt.datetime):
        return part.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    return part.isoformat() if isinstance(part, dt.date) else str(part)


def key_to_url(key: Key) -> str:
    """One URL path segment: parts percent-encoded, joined by commas. The table's key types say how to read
    it. The keys `.` and `..` are not changed by that, and no path can carry them: clients and proxies take
    them, percent-encoded too, for steps between folders. They are asked for by a parameter, `…/rows?id=.`"""
    return ",".join(quote(_url_part(p), safe="") for p in key)


def url_parts(segment: str) -> list[str]:
    """The parts of a key's URL form as text, to be read by the key columns' types."""
    return [unquote(p) for p in segment.split(",")]
