"""What is counted while it happens. Every metric's name begins with `vectable_`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from vectable.core.meter import Stage
from vectable.server.metrics.families import PREFIX, Counter, Family, Gauge, Histogram
from vectable.server.metrics.shared import read_numbers, started, write_numbers

SHARED_DIRECTORY = "VECTABLE_METRICS_DIRECTORY"
"""Where the worker processes of one server keep their numbers: set by whoever starts them."""
SECONDS = tuple(float(f"{m}e{e}") for e in range(-4, 2) for m in (1, 1.5, 2, 3, 5, 7))
_ITEMS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0, 256.0, 1_024.0)
_TOKENS = (8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 4_096.0, 16_384.0)
STAGES: tuple[Stage, ...] = ("tokenise", "queue", "inference", "search")
_STAGE_LABELS: dict[Stage, tuple[str]] = {stage: (stage,) for stage in STAGES}


class Metrics(Collector):
    """The numbers of one server, or of one of its worker processes. A `Meter`. Thread-safe; one request costs
    a few microseconds."""

    def __init__(self, shared: Path | None = None) -> None:
        """`shared`: the directory in which worker processes keep theirs; None: there are no others."""
        self._shared = shared
        self._lock = threading.Lock()
        self.started = started(shared)
        """When the whole server did, in seconds of `time.monotonic()`."""
        self.families: list[Family] = []
        """In the order they were made."""
        seconds, items, tokens = SECONDS, _ITEMS, _TOKENS
        self._requests = self.counter("requests", "Requests answered.", "method", "route", "status")
        self._request_seconds = self._histogram(
            "request_seconds", "From a request's head to the end of its answer.", seconds, "route"
        )
        self._stage_seconds = self._histogram("stage_seconds", "One piece of work.", seconds, "stage")
        self._batch_items = self._histogram("batch_items", "Items given to a model at once.", items)
        self._batch_tokens = self._histogram("batch_tokens", "Tokens given to a model at once.", tokens)
        self._items = self.counter("embedded_items", "Items that models were given.", "model")
        self._tokens = self.counter("embedded_tokens", "Tokens that models were given.", "model")
        self._errors = self.counter("errors", "Requests refused or failed.", "code")
        self._refusals = self.counter("access_refusals", "Requests without the right to be made.", "reason")
        for stage in STAGES:
            self._stage_seconds.values[_STAGE_LABELS[stage]] = [0.0] * (len(seconds) + 2)

    @classmethod
    def of_this_process(cls) -> Metrics:
        """Metrics that are summed up with those of the other workers, where there are any."""
        directory = os.environ.get(SHARED_DIRECTORY)
        return cls(Path(directory) if directory else None)

    def _histogram(self, name: str, about: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
        found = Histogram(name, about, bounds, *labels)
        self.families.append(found)
        return found

    def counter(self, name: str, about: str, *labels: str) -> Counter:
        """A new counter `vectable_NAME_total`."""
        found = Counter(name, about, *labels)
        self.families.append(found)
        return found

    def gauge(self, name: str, about: str, *labels: str, highest: bool = False) -> Gauge:
        """A new gauge `vectable_NAME`. Over several processes it is their sum, or the highest of them."""
        found = Gauge(name, about, *labels, highest=highest)
        self.families.append(found)
        return found

    def request(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """A request was answered; `seconds` is None where its time says nothing. `route` is the path's
        template: one of few."""
        with self._lock:
            self._requests.add((method, route, str(status)))
            if seconds is not None:
                self._request_seconds.observe((route,), seconds)

    def failed(self, code: str) -> None:
        """A request was answered with a problem of that code."""
        with self._lock:
            self._errors.add((code,))

    def refused(self, reason: str) -> None:
        """A request was refused for who asked."""
        with self._lock:
            self._refusals.add((reason,))

    def took(self, stage: Stage, seconds: float) -> None:
        """One piece of work spent that long in that stage."""
        with self._lock:
            self._stage_seconds.observe(_STAGE_LABELS[stage], seconds)

    def batch(self, model: str, items: int, tokens: int) -> None:
        """A model was given that much at once."""
        with self._lock:
            self._items.add((model,), items)
            self._tokens.add((model,), tokens)
            self._batch_items.observe((), items)
            self._batch_tokens.observe((), tokens)

    def share(self) -> None:
        """Puts these numbers where the other workers find them, if there are any."""
        if self._shared is not None:
            with self._lock:
                write_numbers(self._shared, os.getpid(), self.families)

    def collect(self) -> Iterator[Metric]:
        """Every metric, with the numbers of the other workers."""
        self.share()
        others = read_numbers(self._shared, os.getpid()) if self._shared is not None else []
        for family in self.families:
            with self._lock:
                values = family.merged([found.get(family.name, {}) for found in others])
            yield family.metric(values)

    def collected(self) -> dict[str, Metric]:
        """Every metric by name, without the prefix."""
        return {metric.name.removeprefix(PREFIX): metric for metric in self.collect()}

    def registry(self) -> CollectorRegistry:
        """What Prometheus' library writes out."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry
