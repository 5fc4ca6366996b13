"""Vector indexes of pgvector: what may be asked for, over which expression they are, and how they are asked.

Rows stay float32 whatever the index is over: halves or bits nominate, and the core compares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vectable.backends.postgres.margin import OPERATORS
from vectable.core.schema import Index, Metric, Version
from vectable.errors import InvalidInput, Unsupported, did_you_mean

KINDS = ("hnsw", "ivfflat")
"""Built by the server."""
_RANGES: dict[str, dict[str, tuple[int, int]]] = {
    "hnsw": {"m": (2, 100), "ef_construction": (4, 1_000)},
    "ivfflat": {"lists": (1, 32_768)},
}
_DEFAULTS = {"m": 16, "ef_construction": 64, "lists": 100}
_MOST_DIMENSIONS = {"none": 2_000, "halfvec": 4_000, "binary": 64_000}
_NAMES = {Metric.COSINE: "cosine", Metric.EUCLIDEAN: "l2", Metric.INNER_PRODUCT: "ip"}
_HALF_REACH = 60_000
"""Longer vectors than that may have components a half cannot hold."""
MOST_EF = 1_000
"""The server's limit of `hnsw.ef_search`."""


def check_index(version: Version, kind: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """See `engine.search.indexing.IndexBuilder`."""
    if kind not in KINDS:
        raise Unsupported(f"PostgreSQL builds no {kind} index", hint=f"kinds: {', '.join(KINDS)}")
    ranges = _RANGES[kind]
    for name, value in parameters.items():
        if name == "quantization":
            continue
        if name not in ranges:
            raise InvalidInput(
                f"an {kind} index has no parameter {name!r}",
                hint=did_you_mean(name, [*ranges, "quantization"], "parameters"),
            )
        least, most = ranges[name]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InvalidInput(f"{name} is {value!r}", hint=f"give a whole number from {least} to {most}")
    if kind == "hnsw":
        m, ef = (parameters.get(n, _DEFAULTS[n]) for n in ("m", "ef_construction"))
        if ef < 2 * m:
            raise InvalidInput(
                f"ef_construction is {ef}, m is {m}", hint="ef_construction must be at least 2 · m"
            )
    return {**parameters, "quantization": _quantization(version, parameters)}


def _quantization(version: Version, parameters: Mapping[str, Any]) -> str:
    asked, dimensions = parameters.get("quantization"), version.dimensions
    if asked is None:
        return next(q for q, most in _MOST_DIMENSIONS.items() if dimensions <= most)
    if asked not in _MOST_DIMENSIONS:
        raise InvalidInput(f"unknown quantization {asked!r}", hint=f"one of: {', '.join(_MOST_DIMENSIONS)}")
    most = _MOST_DIMENSIONS[asked]
    if dimensions > most:
        raise InvalidInput(
            f"with quantization {asked!r} an index takes up to {most:,} dimensions, not {dimensions:,}",
            hint="leave it out: what fits is chosen",
        )
    return str(asked)


def _quantized(index: Index) -> str:
    return str(index.parameters.get("quantization", "none"))


def definition(index: Index, version: Version) -> str:
    """SQL of an index over a version's cells, from USING on."""
    quantization, given = _quantized(index), {**_DEFAULTS, **index.parameters}
    operators = {
        "none": f"vector_{_NAMES[version.metric]}_ops",
        "halfvec": f"halfvec_{_NAMES[version.metric]}_ops",
        "binary": "bit_hamming_ops",
    }[quantization]
    options = ", ".join(f"{name} = {int(given[name])}" for name in _RANGES[str(index.method)])
    where = _reach(quantization, version, "vector")
    return (
        f"USING {index.method} (({_expression(quantization, version, 'vector')}) {operators})"
        f" WITH ({options})" + (f" WHERE {where}" if where else "")
    )


def ordering(index: Index, version: Version, vector: str, query: str) -> tuple[str, str]:
    """(condition or "", ORDER BY) that the index serves, for the SQL of a stored vector and of a query."""
    quantization = _quantized(index)
    operator = "<~>" if quantization == "binary" else OPERATORS[version.metric]
    left = _expression(quantization, version, vector)
    right = _expression(quantization, version, f"{query}::vector")
    return _reach(quantization, version, vector), f"{left} {operator} {right}"


def _expression(quantization: str, version: Version, vector: str) -> str:
    if quantization == "none":
        return vector
    if quantization == "binary":
        return f"binary_quantize({vector})::bit({version.dimensions})"
    # An angle does not depend on the length, and a half cannot hold every length.
    scaled = f"l2_normalize({vector})" if version.metric is Metric.COSINE else vector
    return f"({scaled})::halfvec({version.dimensions})"


def _reach(quantization: str, version: Version, vector: str) -> str:
    if quantization != "halfvec" or version.metric is Metric.COSINE:
        return ""
    # Written rows must not fail for an index that cannot hold them.
    return f"vector_norm({vector}) < {_HALF_REACH}"


def efforts(index: Index, rows: int) -> Sequence[tuple[int, int]]:
    """See `engine.search.indexing.IndexBuilder`."""
    if index.method == "hnsw":
        found = [(40, 20), (100, 20), (200, 40), (400, 40), (800, 80)]
    else:
        lists = int(index.parameters.get("lists", _DEFAULTS["lists"]))
        first = max(1, round(math.sqrt(lists)))
        probes = sorted({min(lists, first * 2**i) for i in range(6)} | {lists})
        found = [(p, 20) for p in probes]
    if _quantized(index) == "binary":
        # Bits tell near from far, not nearest from near: the more are compared, the better.
        found = [(e, c) for c in (100, 400, 1_600) for e, _ in found if c <= max(rows // 4, 100)]
    return found


def settings(index: Index, effort: int, wanted: int) -> str:
    """SQL of the settings for one search, for the transaction only. Scans go on until `wanted` rows pass the
    filter, or so many have been looked at that to look at all is no more work."""
    if index.method == "hnsw":
        ef = min(MOST_EF, max(effort, wanted))
        return (
            f"SET LOCAL hnsw.ef_search = {ef}; SET LOCAL hnsw.iterative_scan = relaxed_order;"
            f" SET LOCAL hnsw.max_scan_tuples = {max(20_000, 20 * wanted)};"
            " SET LOCAL hnsw.scan_mem_multiplier = 2"
        )
    return (
        f"SET LOCAL ivfflat.probes = {effort}; SET LOCAL ivfflat.iterative_scan = relaxed_order;"
        f" SET LOCAL ivfflat.max_probes = {4 * effort}"
    )
