"""Batches over HTTP beside the bare runtime: by size, of short texts, of documents of every length."""

from __future__ import annotations

import asyncio
import time
from functools import cache
from typing import Any

import numpy as np

from benchmarks.http import Client, served
from benchmarks.measure import Figure, median
from benchmarks.texts import docstrings
from vectable import providers
from vectable.config import DEFAULT_MODEL

SIZES = (1, 32, 100, 500)
WANTED = {1: 100.0, 32: 800.0, 100: 1_500.0}
ROUNDS = 5
_WORDS = ("open", "file", "read", "line", "parse", "value", "table", "column", "index", "search", "vector")


def run() -> list[Figure]:
    """The figures."""
    with served("--no-preload") as (host, port, process):
        figures = asyncio.run(_measure(host, port))
        memory = process.memory_info()
        peak = getattr(memory, "peak_wset", None) or _high_water(process.pid)
    return [
        *figures,
        Figure("peak memory of the server", peak / 2**20, "MiB", ("<=", 500.0), "after the load above"),
    ]


def _high_water(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


async def _measure(host: str, port: int) -> list[Figure]:
    client = Client(host, port)
    bare = providers.load(DEFAULT_MODEL)
    _titles()
    await bare.embed(["warm"], "document")
    await client.post("/embed/text", {"texts": ["warm"]})
    try:
        return [*await _by_size(client), *await _short(client, bare), *await _documents(client, bare)]
    finally:
        client.close()
        await bare.close()


async def _by_size(client: Client) -> list[Figure]:
    """Each size in turn, round after round: short texts that nobody asked for before."""
    times: dict[int, list[float]] = {size: [] for size in SIZES}
    for round_ in range(ROUNDS):
        for size in SIZES:
            texts = _short_texts(size, f"{round_} {size}")
            times[size].append((await client.post("/embed/text", {"texts": texts}))[0])
    single = median(times[1])
    figures = []
    for size in SIZES:
        per_item = median(times[size]) / size
        wanted = (">=", WANTED[size]) if size in WANTED else None
        note = f"{per_item:.2f} ms an item, {single / per_item:.1f} times as fast as alone"
        figures.append(Figure(f"{size} texts a request", 1_000 / per_item, "texts/s", wanted, note))
    return figures


async def _short(client: Client, bare: Any) -> list[Figure]:
    ours, floor = [], []
    for round_ in range(-1, 2 * ROUNDS):
        texts = _short_texts(100, f"short {round_}")
        elapsed, _ = await client.post("/embed/text", {"texts": texts})
        started = time.perf_counter()
        await bare.embed(texts, "document")
        if round_ >= 0:
            ours.append(elapsed)
            floor.append((time.perf_counter() - started) * 1000)
    ratio = median([o / f for o, f in zip(ours, floor, strict=True)])
    return [
        Figure("100 short texts over HTTP", median(ours), "ms", None, "wanted: as close to 50 as it can be"),
        Figure("100 short texts, bare runtime", median(floor), "ms"),
        Figure("… ratio", ratio, "", ("<=", 1.1)),
    ]


async def _documents(client: Client, bare: Any) -> list[Figure]:
    """Documents of 4 to 250 words, mixed: ours, and batches of 32 in their order, padded to the longest."""
    generator = np.random.default_rng(9)
    ours, naive = [], []
    for round_ in range(3):
        texts = [
            f"{round_} " + " ".join(generator.choice(_WORDS, size=int(n)))
            for n in np.exp(generator.uniform(np.log(4), np.log(250), 128))
        ]
        ours.append((await client.post("/embed/text", {"texts": texts}))[0])
        naive.append(await _in_order(bare, texts))
    return [
        Figure("128 mixed documents over HTTP", median(ours), "ms"),
        Figure("… in batches of 32 as they come, bare runtime", median(naive), "ms", None, "padded"),
        Figure("… times as fast", median([n / o for n, o in zip(naive, ours, strict=True)]), ""),
    ]


async def _in_order(bare: Any, texts: list[str]) -> float:
    started = time.perf_counter()
    for at in range(0, len(texts), 32):
        ids = bare.tokenize(texts[at : at + 32], "document")
        await asyncio.to_thread(bare._forward, ids)
    return (time.perf_counter() - started) * 1000


@cache
def _titles() -> list[str]:
    return [" ".join(text.split()[:8]) for text in docstrings(max(SIZES))]


def _short_texts(n: int, name: str) -> list[str]:
    return [f"{name} {title}" for title in _titles()[:n]]
