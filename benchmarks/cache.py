"""The vector cache over HTTP: four requests of five are hits."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from benchmarks.http import Connection, crowd, served
from benchmarks.measure import Figure, percentile, tell

REQUESTS = 1_000
ENTRIES = 10_000
CLIENTS = 8
_BOUND = "5 is the bound, where hits cost nothing"


def run() -> list[Figure]:
    """The figures."""
    with served() as (host, port, _):
        figures = [*_alone(host, port), *_together(host, port)]
    tell(f"{ENTRIES:,} entries")
    with served("--text-model", "hashing/384") as (host, port, process):
        _fill(host, port, "warm", 100)
        before = process.memory_info().rss
        _fill(host, port, "entry", ENTRIES)
        grown = (process.memory_info().rss - before) / 2**20
    return [
        *figures,
        Figure(
            "memory of 10,000 entries", grown, "MiB", ("<=", 100.0), "growth of the server, 384 dimensions"
        ),
    ]


def _bodies(name: str, hot: list[str]) -> tuple[list[Any], list[Any]]:
    """(Requests that hit nothing, requests of which four of five hit), in an order of chance."""
    generator = random.Random(4)
    fresh = [{"texts": [f"{name}: nobody will ask this again, number {i}"]} for i in range(REQUESTS // 2)]
    mixed = [
        {"texts": [generator.choice(hot) if i % 5 else f"{name}: nobody asked this before, number {i}"]}
        for i in range(REQUESTS)
    ]
    generator.shuffle(mixed)
    return fresh, mixed


def _alone(host: str, port: int) -> list[Figure]:
    connection = Connection(host, port)
    hot = _warmed(connection)
    fresh, mixed = _bodies("alone", hot)
    tell("one client, no hits")
    none = [connection.post("/embed/text", body)[0] for body in fresh]
    tell("one client, 80 % hits")
    some = [connection.post("/embed/text", body)[0] for body in mixed]
    connection.close()
    average, before = sum(some) / len(some), sum(none) / len(none)
    return [
        Figure("without hits, average", before, "ms"),
        Figure("80 % hits, average", average, "ms"),
        Figure("80 % hits, p95", percentile(some, 0.95), "ms"),
        Figure("80 % hits, requests", 1_000 / average, "requests/s"),
        Figure("… times as many as without", before / average, "", (">=", 5.0), _BOUND),
    ]


def _together(host: str, port: int) -> list[Figure]:
    connection = Connection(host, port)
    fresh, mixed = _bodies("together", _warmed(connection))
    connection.close()
    tell(f"{CLIENTS} clients, no hits, then 80 %")
    none_s, none = asyncio.run(crowd(host, port, CLIENTS, fresh, "/embed/text"))
    some_s, some = asyncio.run(crowd(host, port, CLIENTS, mixed, "/embed/text"))
    name = f"{CLIENTS} clients, 80 % hits"
    rate, before = len(some) / some_s, len(none) / none_s
    return [
        Figure(f"{name}, average", sum(some) / len(some), "ms", None, f"{sum(none) / len(none):.1f} without"),
        Figure(f"{name}, requests", rate, "requests/s", None, f"{before:.0f} without"),
        Figure("… times as many as without", rate / before, "", None, _BOUND),
    ]


def _warmed(connection: Connection) -> list[str]:
    hot = [f"a question that is often asked, number {i}" for i in range(50)]
    for text in hot:
        connection.post("/embed/text", {"texts": [text]})
    return hot


def _fill(host: str, port: int, name: str, n: int) -> None:
    connection = Connection(host, port)
    for at in range(0, n, 500):
        texts = [f"{name} {i}" for i in range(at, min(n, at + 500))]
        connection.post("/embed/text", {"texts": texts, "encoding_format": "base64"})
    connection.close()
