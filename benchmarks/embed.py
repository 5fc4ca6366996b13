"""Embedding throughput through every layer, beside the bare runtime on the same texts and batches."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.measure import Figure, median
from benchmarks.texts import docstrings
from vectable.config import DEFAULT_MODEL, Settings
from vectable.database import Database
from vectable.providers.passes import passes

TEXTS = 400
ROUNDS = 3


async def _measure() -> list[Figure]:
    settings = Settings.from_environment()
    texts = docstrings(TEXTS * ROUNDS)
    async with await Database.open("memory:", settings) as database:
        provider = await database.embedder.models.provider(DEFAULT_MODEL)
        await provider.embed(["warm"], "document")
        bare, ours, single = [], [], []
        for round_ in range(ROUNDS):
            part = texts[round_ * TEXTS : (round_ + 1) * TEXTS]
            bare.append(await _bare(provider, part))
            started = time.perf_counter()
            await database.embedder.encode(part)
            ours.append(time.perf_counter() - started)
        for i in range(60):
            started = time.perf_counter()
            await database.embedder.encode([f"how do I parse argument number {i}"], purpose="query")
            single.append((time.perf_counter() - started) * 1000)
    share = median([b / o for b, o in zip(bare, ours, strict=True)])
    return [
        Figure("bare runtime", TEXTS / median(bare), "texts/s", None, f"{TEXTS} docstrings, same batches"),
        Figure("embedding with cache and checks", TEXTS / median(ours), "texts/s"),
        Figure("share of the bare runtime", share, "", (">=", 0.9)),
        Figure("one short text, uncached p50", median(single), "ms"),
    ]


async def _bare(provider: Any, texts: list[str]) -> float:
    """The provider alone, fed the same batches: no cache, no keys, no checks."""
    started = time.perf_counter()
    for batch in passes(provider.lengths(texts)):
        await provider.embed([texts[i] for i in batch], "document")
    return time.perf_counter() - started


def run() -> list[Figure]:
    """The figures."""
    return asyncio.run(_measure())
