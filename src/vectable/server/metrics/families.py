"""Numbers by label: counters, gauges and histograms that are cheap to change, and add up over processes.

Prometheus' own library writes them out; kept here, a change costs a tenth of what it costs there.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from typing import Any

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

Labels = tuple[str, ...]
PREFIX = "vectable_"


class Counter:
    """Only grows. Over several processes: the sum, of those that ended too."""

    lives_on = True

    def __init__(self, name: str, about: str, *labels: str) -> None:
        self.name, self.about, self.labels = name, about, labels
        self.values: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1.0) -> None:
        """Adds to the number under `labels`."""
        self.values[labels] = self.values.get(labels, 0.0) + amount

    def merged(self, others: Iterable[dict[Labels, Any]]) -> dict[Labels, Any]:
        """The numbers with those of other processes."""
        found = dict(self.values)
        for values in others:
            for labels, value in values.items():
                found[labels] = found.get(labels, 0.0) + value
        return found

    def metric(self, values: dict[Labels, Any]) -> Metric:
        """The numbers as Prometheus knows them."""
        found = CounterMetricFamily(PREFIX + self.name, self.about, labels=self.labels)
        for labels, value in sorted(values.items()):
            found.add_metric(labels, value)
        return found


class Gauge(Counter):
    """What is now. Over the processes that live: the sum, or with `highest` the highest."""

    lives_on = False

    def __init__(self, name: str, about: str, *labels: str, highest: bool = False) -> None:
        super().__init__(name, about, *labels)
        self._highest = highest

    def set(self, value: float, labels: Labels = ()) -> None:
        """Replaces the number under `labels`."""
        self.values[labels] = value

    def merged(self, others: Iterable[dict[Labels, Any]]) -> dict[Labels, Any]:
        """The numbers with those of other processes."""
        if not self._highest:
            return super().merged(others)
        found = dict(self.values)
        for values in others:
            for labels, value in values.items():
                found[labels] = max(found.get(labels, value), value)
        return found

    def metric(self, values: dict[Labels, Any]) -> Metric:
        """The numbers as Prometheus knows them."""
        found = GaugeMetricFamily(PREFIX + self.name, self.about, labels=self.labels)
        for labels, value in sorted(values.items()):
            found.add_metric(labels, value)
        return found


class Histogram:
    """How observations are distributed: how many lie up to each bound, how many beyond all, and their sum, as
    one list. Over several processes: the sum, of those that ended too."""

    lives_on = True

    def __init__(self, name: str, about: str, bounds: tuple[float, ...], *labels: str) -> None:
        self.name, self.about, self.bounds, self.labels = name, about, bounds, labels
        self.values: dict[Labels, list[float]] = {}

    def observe(self, labels: Labels, value: float) -> None:
        """One more observation."""
        tally = self.values.get(labels)
        if tally is None:
            tally = self.values[labels] = [0.0] * (len(self.bounds) + 2)
        tally[bisect.bisect_left(self.bounds, value)] += 1
        tally[-1] += value

    def merged(self, others: Iterable[dict[Labels, Any]]) -> dict[Labels, Any]:
        """The numbers with those of other processes."""
        found = {labels: list(tally) for labels, tally in self.values.items()}
        for values in others:
            for labels, tally in values.items():
                known = found.get(labels)
                found[labels] = [a + b for a, b in zip(known, tally, strict=True)] if known else list(tally)
        return found

    def metric(self, values: dict[Labels, Any]) -> Metric:
        """The numbers as Prometheus knows them: buckets that hold all below their bound."""
        found = HistogramMetricFamily(PREFIX + self.name, self.about, labels=self.labels)
        bounds = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        for labels, tally in sorted(values.items()):
            below = 0.0
            buckets = []
            for bound, count in zip(bounds, tally[:-1], strict=True):
                below += count
                buckets.append((bound, below))
            found.add_metric(labels, buckets, tally[-1] if math.isfinite(tally[-1]) else 0.0)
        return found


Family = Counter | Gauge | Histogram
