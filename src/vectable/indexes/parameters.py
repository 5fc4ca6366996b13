"""What each kind of index may be told, checked before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vectable.errors import InvalidInput, did_you_mean


@dataclass(frozen=True, slots=True)
class Range:
    """An integer parameter and what it may be."""

    low: int
    high: int


PARAMETERS: Mapping[str, Mapping[str, Range]] = {
    "hnsw": {"m": Range(2, 128), "ef_construction": Range(4, 4_000), "ef_search": Range(1, 10_000)},
    "ivfflat": {"lists": Range(1, 65_536), "probes": Range(1, 65_536)},
    "ivfpq": {"lists": Range(1, 65_536), "probes": Range(1, 65_536), "m": Range(1, 4_096)},
    "flat": {},
    "fast-scan": {},
}


def check_parameters(kind: str, parameters: Mapping[str, Any], dimensions: int) -> dict[str, int]:
    """`parameters` as integers within their ranges. Raises InvalidInput for an unknown kind or parameter, and
    for a value that does not fit."""
    known = PARAMETERS.get(kind)
    if known is None:
        named = [k for k in PARAMETERS if k != "fast-scan"]
        raise InvalidInput(f"unknown index method {kind!r}", hint=did_you_mean(str(kind), named, "methods"))
    checked: dict[str, int] = {}
    for name, value in parameters.items():
        allowed = known.get(name)
        if allowed is None:
            raise InvalidInput(
                f"a {kind} index has no parameter {name!r}", hint=did_you_mean(str(name), known, "parameters")
            )
        if isinstance(value, bool) or not isinstance(value, int) or not allowed.low <= value <= allowed.high:
            raise InvalidInput(f"{name} must be an integer from {allowed.low} to {allowed.high}")
        checked[name] = value
    if kind == "ivfpq" and dimensions % checked.get("m", 1):
        divisors = [i for i in range(1, dimensions + 1) if dimensions % i == 0]
        raise InvalidInput(
            f"m = {checked['m']} does not divide {dimensions} dimensions", hint=f"one of {divisors[-8:]} does"
        )
    return checked
