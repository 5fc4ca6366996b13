"""The embedding service over HTTP: one text, a cached one, many clients at once, comparing vectors."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

import vectable
from benchmarks.http import Client, crowd, served
from benchmarks.measure import Figure, alternately, median, percentile

ROUNDS = 300


def run() -> list[Figure]:
    """The figures."""
    with served() as (host, port, _):
        figures = asyncio.run(_measure(host, port))
    return figures + _similarity()


async def _measure(host: str, port: int) -> list[Figure]:
    client = Client(host, port)
    for i in range(30):
        await client.post("/embed/text", _body(f"warm {i}"))
    fresh, hits, bare = [], [], []
    for i in range(ROUNDS):
        body = _body(f"how do I parse argument number {i}")
        fresh.append((await client.post("/embed/text", body))[0])
        hits.append((await client.post("/embed/text", body))[0])
        bare.append((await client.post("/similarity", {"query": [1.0], "candidates": [[1.0]]}))[0])
    figures = [
        Figure("one text, uncached p50", median(fresh), "ms", ("<=", 5.0)),
        Figure("one text, uncached p99", percentile(fresh, 0.99), "ms", ("<=", 10.0)),
        Figure("one text, cached p50", median(hits), "ms"),
        Figure("one text, cached p99", percentile(hits, 0.99), "ms", ("<=", 1.0)),
        Figure("a request that computes nothing p99", percentile(bare, 0.99), "ms", None, "HTTP alone"),
    ]
    client.close()
    for clients in (1, 8, 64):
        texts = [
            _body(f"client {clients}, how do I open file number {i}") for i in range(max(200, clients * 6))
        ]
        seconds, times = await crowd(host, port, clients, texts, "/embed/text")
        name = f"{clients} client{'s' if clients > 1 else ''} at once"
        figures += [
            Figure(f"{name}: texts", len(texts) / seconds, "texts/s", None, "one text a request, uncached"),
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
