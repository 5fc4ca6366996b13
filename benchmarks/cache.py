"""The vector cache over HTTP: four requests of five are hits."""

from __future__ import annotations

import asyncio
import random

from benchmarks.http import Client, crowd, served
from benchmarks.measure import Figure, percentile

REQUESTS = 600
ENTRIES = 10_000


def run() -> list[Figure]:
    """The figures."""
    with served() as (host, port, process):
        figures = asyncio.run(_rates(host, port))
    with served("--text-model", "hashing/384") as (host, port, process):
        asyncio.run(_fill(host, port, "warm", 100))
        before = process.memory_info().rss
        asyncio.run(_fill(host, port, "entry", ENTRIES))
        grown = (process.memory_info().rss - before) / 2**20
    return [
        *figures,
        Figure(
            "memory of 10,000 entries", grown, "MiB", ("<=", 100.0), "growth of the server, 384 dimensions"
        ),
    ]


async def _rates(host: str, port: int) -> list[Figure]:
    client = Client(host, port)
    hot = [f"a question that is often asked, number {i}" for i in range(50)]
    for text in hot:
        await client.post("/embed/text", {"texts": [text]})
    client.close()
    generator = random.Random(4)
    mixed = [
        {"texts": [generator.choice(hot) if i % 5 else f"a question nobody asked before, number {i}"]}
        for i in range(REQUESTS)
    ]
    fresh = [{"texts": [f"one that nobody will ask again, number {i}"]} for i in range(REQUESTS // 2)]
    none_s, none = await crowd(host, port, 1, fresh, "/embed/text")
    some_s, some = await crowd(host, port, 1, mixed, "/embed/text")
    gain = (len(mixed) / some_s) / (len(fresh) / none_s)
    return [
        Figure("without hits, average", sum(none) / len(none), "ms"),
        Figure("80 % hits, average", sum(some) / len(some), "ms"),
        Figure("80 % hits, p95", percentile(some, 0.95), "ms"),
        Figure("80 % hits, requests", len(mixed) / some_s, "requests/s"),
        Figure("… times as many as without", gain, "", (">=", 5.0), "5 is the bound where hits cost nothing"),
    ]


async def _fill(host: str, port: int, name: str, n: int) -> None:
    client = Client(host, port)
    for at in range(0, n, 500):
        texts = [f"{name} {i}" for i in range(at, min(n, at + 500))]
        await client.post("/embed/text", {"texts": texts, "encoding_format": "base64"})
    client.close()
