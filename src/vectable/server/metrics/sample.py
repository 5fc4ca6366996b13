"""What is looked up now and then: sizes, depths and states that others keep."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric

from vectable.server.metrics.families import Counter
from vectable.server.metrics.measure import Metrics
from vectable.server.metrics.remote import RemoteSample

if TYPE_CHECKING:
    from vectable.database import Database

log = logging.getLogger(__name__)
EVERY_S = 5.0
_WINDOW = 13
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STATM = Path("/proc/self/statm")


class Sampler:
    """Brings sampled metrics up to date, and remembers the totals of the last minute."""

    def __init__(self, metrics: Metrics) -> None:
        self._seen: dict[str, float] = {}
        self._history: deque[tuple[float, float, float]] = deque(maxlen=_WINDOW)
        gauge, counter = metrics.gauge, metrics.counter
        self._gauges = {
            "in_flight": gauge("requests_in_flight", "Requests being worked on."),
            "memory": gauge("memory_bytes", "Memory the process holds (resident set)."),
            "resident": gauge("resident_index_bytes", "Memory of resident indexes."),
            "cache_size": gauge("cache_entries", "Vectors in the cache's memory tier."),
            "cache_bytes": gauge("cache_bytes", "Memory of the cache's memory tier."),
            "models": gauge("models_loaded", "Models in memory."),
        }
        self._queue = {
            "items": gauge("queue_items", "Items that wait for a model or are with it.", "model"),
            "tokens": gauge("queue_tokens", "About how many tokens those have.", "model"),
        }
        self._counters = {
            "hits": counter("cache_hits", "Vectors found in the cache."),
            "misses": counter("cache_misses", "Vectors not found in the cache."),
            "evictions": counter("cache_evictions", "Vectors that left the memory tier for others."),
        }
        self._pool = {
            "open": gauge("postgres_connections", "Open connections to PostgreSQL."),
            "busy": gauge("postgres_connections_busy", "Connections in use."),
            "waiting": gauge("postgres_waiting", "Callers waiting for a connection."),
        }
        self._pool_counters = {
            "waited": counter("postgres_waited", "Callers that had to wait for a connection."),
            "refused": counter("postgres_refused", "Callers that waited in vain."),
        }

        self._remote = RemoteSample(metrics)

    async def sample(self, database: Database, in_flight: int) -> None:
        """Looks everything up once."""
        cache = database.embedder.cache_stats()
        self._gauges["in_flight"].set(in_flight)
        self._gauges["memory"].set(held_memory())
        self._gauges["resident"].set(database.registry.held())
        self._gauges["cache_size"].set(cache["size"])
        self._gauges["cache_bytes"].set(cache["bytes"])
        self._gauges["models"].set(len(database.embedder.models.loaded_ids()))
        waiting = database.embedder.waiting()
        for place, each in enumerate(("items", "tokens")):
            gauge = self._queue[each]
            for labels in gauge.values:
                gauge.set(0.0, labels)
            for model, counts in waiting.items():
                gauge.set(counts[place], (model,))
        for name, counter in self._counters.items():
            self._follow(counter, name, cache[name])
        pool = database.pool_status()
        if pool is not None:
            for name, gauge in self._pool.items():
                gauge.set(pool[name])
            for name, counter in self._pool_counters.items():
                self._follow(counter, name, pool[name])

        remote = await database.remote_status()
        if remote is not None:
            self._remote.take(remote["endpoints"], remote["spend"])

    def _follow(self, counter: Counter, name: str, total: float) -> None:
        """Makes a counter follow a total that somebody else keeps, and may begin anew."""
        seen = self._seen.get(name, 0.0)
        counter.add((), total - seen if total >= seen else total)
        self._seen[name] = total

    def note(self, requests: float, items: float) -> None:
        """Remembers how many requests were answered and items embedded until now."""
        self._history.append((time.monotonic(), requests, items))

    def last_minute(self, requests: float, items: float) -> tuple[float, float]:
        """(requests, items) a second since the oldest note, about a minute ago; zeros without any."""
        if not self._history:
            return 0.0, 0.0
        at, before_requests, before_items = self._history[0]
        seconds = max(time.monotonic() - at, 1e-3)
        return (requests - before_requests) / seconds, (items - before_items) / seconds


async def keep_sampling(
    metrics: Metrics, sampler: Sampler, database: Database, in_flight: Callable[[], int]
) -> None:
    """Samples every few seconds, until cancelled; never fails."""
    while True:
        try:
            await sampler.sample(database, in_flight())
            found = metrics.collected()
            sampler.note(total_of(found["requests"]), total_of(found["embedded_items"]))
        except Exception:
            log.exception("measuring has failed")
        await asyncio.sleep(EVERY_S)


def held_memory() -> int:
    """The resident set of this process, in bytes (where the system does not say: the highest it was)."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def total_of(metric: Metric) -> float:
    """The sum of a counter over its labels."""
    return float(sum(sample.value for sample in metric.samples if sample.name.endswith("_total")))
