"""The numbers summed up for people: percentiles, throughput, what fails."""

from __future__ import annotations

import bisect
from typing import Any

from prometheus_client.metrics_core import Metric

from vectable.server.metrics.measure import STAGES, Metrics
from vectable.server.metrics.sample import Sampler, total_of

_PERCENTILES = (50, 95, 99)
_WHOLE = ""


def summary(metrics: Metrics, sampler: Sampler, uptime_s: float) -> dict[str, Any]:
    """The content of `GET /stats`. Percentiles are since the start, interpolated within a histogram's
    buckets, whose bounds lie at most a factor of 1.7 apart."""
    found = metrics.collected()
    requests, items = total_of(found["requests"]), total_of(found["embedded_items"])
    lately = sampler.last_minute(requests, items)
    routes = latencies(found["request_seconds"], "route")
    stages = latencies(found["stage_seconds"], "stage")
    hits, misses = total_of(found["cache_hits"]), total_of(found["cache_misses"])
    return {
        "uptime": round(uptime_s, 3),
        "requests": {
            "total": int(requests),
            "inFlight": int(_value(found["requests_in_flight"])),
            "perSecond": round(requests / max(uptime_s, 1e-3), 3),
            "perSecondLastMinute": round(lately[0], 3),
        },
        "latency": {
            "total": latencies(found["request_seconds"], _WHOLE).get(_WHOLE, _NOTHING),
            **{stage: stages.get(stage, _NOTHING) for stage in STAGES},
        },
        "routes": dict(sorted(routes.items(), key=lambda each: -each[1]["count"])),
        "embedded": {
            "items": int(items),
            "tokens": int(total_of(found["embedded_tokens"])),
            "itemsPerSecondLastMinute": round(lately[1], 3),
            "itemsPerBatch": _mean(found["batch_items"]),
        },
        "cache": {
            "size": int(_value(found["cache_entries"])),
            "bytes": int(_value(found["cache_bytes"])),
            "hits": int(hits),
            "misses": int(misses),
            "hitRate": round(hits / (hits + misses), 4) if hits + misses else 0.0,
        },
        "memory": {
            "bytes": int(_value(found["memory_bytes"])),
            "residentIndexes": int(_value(found["resident_index_bytes"])),
        },
        "errors": _by_label(found["errors"], "code"),
        "refusals": _by_label(found["access_refusals"], "reason"),
    }


_NOTHING: dict[str, Any] = {"count": 0, "p50": None, "p95": None, "p99": None}


def latencies(metric: Metric, label: str) -> dict[str, dict[str, Any]]:
    """Percentiles in milliseconds by a label's value; with the label "" of everything together."""
    counts: dict[str, dict[float, float]] = {}
    for sample in metric.samples:
        if sample.name.endswith("_bucket"):
            by_bound = counts.setdefault(sample.labels.get(label, _WHOLE), {})
            bound = float(sample.labels["le"])
            by_bound[bound] = by_bound.get(bound, 0.0) + sample.value
    found = {}
    for name, by_bound in counts.items():
        bounds = sorted(by_bound)
        below = [by_bound[bound] for bound in bounds]
        if below[-1]:
            found[name] = {
                "count": int(below[-1]),
                **{f"p{p}": round(percentile(bounds, below, p / 100) * 1_000, 4) for p in _PERCENTILES},
            }
    return found


def percentile(bounds: list[float], below: list[float], share: float) -> float:
    """Where `share` of the observations lie below, given how many lie below each bound (the last is
    infinite). An observation beyond the last finite bound counts as that bound."""
    rank = share * below[-1]
    place = bisect.bisect_left(below, rank)
    if place == len(bounds) - 1:
        return bounds[-2]
    lower = bounds[place - 1] if place else 0.0
    before = below[place - 1] if place else 0.0
    within = below[place] - before
    return lower + (bounds[place] - lower) * ((rank - before) / within if within else 1.0)


def _value(metric: Metric) -> float:
    return sum(sample.value for sample in metric.samples)


def _mean(metric: Metric) -> float | None:
    sums = {s.name.rpartition("_")[2]: s.value for s in metric.samples if not s.name.endswith("_bucket")}
    return round(sums["sum"] / sums["count"], 2) if sums.get("count") else None


def _by_label(metric: Metric, label: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for sample in metric.samples:
        if sample.name.endswith("_total"):
            found[sample.labels[label]] = found.get(sample.labels[label], 0) + int(sample.value)
    return dict(sorted(found.items(), key=lambda each: -each[1]))
