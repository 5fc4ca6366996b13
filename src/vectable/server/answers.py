"""Answers: JSON with vectors as asked, moments in UTC, images in base64."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import orjson
from starlette.responses import Response

from vectable.core.vectors import encode_base64

VectorFormat = Literal["float", "base64"]
_OPTIONS = orjson.OPT_UTC_Z
_NUMBERS = _OPTIONS | orjson.OPT_SERIALIZE_NUMPY


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"base64": b64encode(value).decode("ascii")}
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} has no form in JSON")


def _plain_with_base64(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return {"base64": encode_base64(value)}
    if isinstance(value, np.ndarray):
        return list(value)
    return _plain(value)


def to_json(content: Any, vectors: VectorFormat = "float") -> bytes:
    """`content` as JSON: datetimes as RFC 3339 in UTC with Z, bytes as {"base64": …}, numpy vectors as
    numbers or as {"base64": …} of little-endian float32."""
    try:
        if vectors == "base64":
            return orjson.dumps(content, _plain_with_base64, _OPTIONS)
        return orjson.dumps(content, _plain, _NUMBERS)
    except TypeError:
        # A json column may hold integers of any size, which only the standard library writes.
        default = _plain_with_base64 if vectors == "base64" else _plain
        return json.dumps(
            _with_moments(content), default=default, separators=(",", ":"), allow_nan=False
        ).encode()


def _with_moments(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _with_moments(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_moments(v) for v in value]
    if hasattr(value, "astimezone"):
        return json.loads(orjson.dumps(value, option=_OPTIONS))
    return value


def answer(
    content: Any,
    status: int = 200,
    vectors: VectorFormat = "float",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A JSON answer."""
    return Response(to_json(content, vectors), status, dict(headers or {}), "application/json")


def without_nulls(content: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """`content` without those of `names` that are null: what the contract marks with a question mark."""
    return {k: v for k, v in content.items() if v is not None or k not in names}


def milliseconds_since(started: float) -> float:
    """Of `time.perf_counter()`, to the microsecond."""
    return round((time.perf_counter() - started) * 1000, 3)
