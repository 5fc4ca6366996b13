"""The embedding service over HTTP: one text, a cached one, many clients at once, comparing vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import vectable
from benchmarks.bare import bare
from benchmarks.http import Connection, crowd, served
from benchmarks.measure import Figure, alternately, median, percentile, tell
from vectable.config import DEFAULT_MODEL

FRESH, HITS = 500, 2_000
_BLOCK = 25
CROWDS = ((1, 200), (8, 400), (64, 640))


def run() -> list[Figure]:
    """The figures."""
    with served() as (host, port, _):
        figures = [*_one(host, port), *asyncio.run(_many(host, port))]
    tell("10,000 vectors compared")
    return figures + _similarity()


def _one(host: str, port: int) -> list[Figure]:
    connection = Connection(host, port)
    tell("one text after the other, none asked for before")
    for i in range(50):
        connection.post("/embed/text", _body(f"warm {i}"))
    texts = [f"how do I parse argument number {i}" for i in range(2 * FRESH)]
    bodies = [_body(text) for text in texts]
    with bare(DEFAULT_MODEL) as alone:
        calls = [
            lambda i: connection.post("/embed/text", bodies[i])[0],
            lambda i: alone.milliseconds([texts[i]]),
        ]
        fresh, least = _in_turn(calls)
    tell("one text after the other, all cached")
    hits = [connection.post("/embed/text", bodies[i % FRESH])[0] for i in range(HITS)]
    nothing = {"query": [1.0], "candidates": [[1.0]]}
    idle = [connection.post("/similarity", nothing)[0] for _ in range(HITS)]
    connection.close()
    return [
        Figure("one text, uncached p50", median(fresh), "ms", ("<=", 5.0)),
        Figure("one text, uncached p99", percentile(fresh, 0.99), "ms", ("<=", 10.0), f"of {FRESH}"),
        Figure("… the bare runtime p50", median(least), "ms", None, "tokenizer and model, in turn"),
        Figure("… the bare runtime p99", percentile(least, 0.99), "ms"),
        Figure("one text, cached p50", median(hits), "ms"),
        Figure("one text, cached p99", percentile(hits, 0.99), "ms", ("<=", 1.0), f"of {HITS:,}"),
        Figure("a request that computes nothing p50", median(idle), "ms", None, "HTTP alone"),
        Figure("a request that computes nothing p99", percentile(idle, 0.99), "ms", None, "HTTP alone"),
    ]


def _in_turn(calls: Sequence[Callable[[int], float]]) -> list[list[float]]:
    """What each call says of every fresh text, in blocks, so that all share the machine's moods; a block
    begins with one more, which warms up what others have cooled down."""
    told: list[list[float]] = [[] for _ in calls]
    for start in range(0, FRESH, _BLOCK):
        for call, kept in zip(calls, told, strict=True):
            call(FRESH + start)
            kept += [call(i) for i in range(start, start + _BLOCK)]
    return told


async def _many(host: str, port: int) -> list[Figure]:
    figures = []
    for clients, requests in CROWDS:
        name = f"{clients} client{'s' if clients > 1 else ''} at once"
        tell(f"{name}, texts that nobody asked for before")
        bodies = [_body(f"client {clients}, how do I open file number {i}") for i in range(requests)]
        seconds, times = await crowd(host, port, clients, bodies, "/embed/text")
        figures += [
            Figure(f"{name}: texts", len(bodies) / seconds, "texts/s", None, "one text a request, uncached"),
            Figure(f"{name}: p50", median(times), "ms"),
            Figure(f"{name}: p95", percentile(times, 0.95), "ms"),
        ]
    return figures


def _similarity() -> list[Figure]:
    matrix = np.random.default_rng(1).standard_normal((10_000, 384)).astype(np.float32)
    times, floor = alternately(
        [lambda i: vectable.similarity(matrix[i], matrix), lambda i: matrix @ matrix[i]], rounds=50
    )
    return [
        Figure("similarity over 10,000 vectors p50", median(times), "ms", ("<=", 10.0), "in Python, 384-d"),
        Figure("… a float32 product alone", median(floor), "ms"),
    ]


def _body(text: str) -> dict[str, Any]:
    return {"texts": [text]}
