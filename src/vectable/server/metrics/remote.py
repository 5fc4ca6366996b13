"""What is sampled of models served elsewhere: their endpoints, and what they cost."""

from __future__ import annotations

from typing import Any

from vectable.server.metrics.measure import Metrics

_STATES = {"closed": 0.0, "half-open": 1.0, "open": 2.0}
_COUNTS = {
    "requests": "Requests sent to an endpoint, repeated ones too.",
    "failed": "Requests an endpoint did not answer as it should.",
    "retried": "Requests sent again.",
    "limited": "Requests an endpoint answered with 429.",
    "refused": "Requests not sent, because the breaker was open.",
}


class RemoteSample:
    """Gauges and counters by model and host."""

    def __init__(self, metrics: Metrics) -> None:
        names = ("model", "host")
        self._breaker = metrics.gauge(
            "breaker_state", "0: closed, 1: half-open, 2: open.", *names, highest=True
        )
        self._in_flight = metrics.gauge("endpoint_in_flight", "Requests under way at an endpoint.", *names)
        self._counts = {
            name: metrics.counter(f"endpoint_{name}", about, *names) for name, about in _COUNTS.items()
        }
        self._spent = metrics.gauge(
            "spend_today", "What a model has cost today (UTC).", "model", highest=True
        )
        self._cap = metrics.gauge("spend_cap", "What it may cost a day.", "model", highest=True)
        self._seen: dict[tuple[str, tuple[str, str]], float] = {}

    def take(self, endpoints: list[dict[str, Any]], spend: list[dict[str, Any]]) -> None:
        """What is known now."""
        for endpoint in endpoints:
            labels = (endpoint["model"], endpoint["host"])
            self._breaker.set(_STATES[endpoint["breaker"]], labels)
            self._in_flight.set(endpoint["in_flight"], labels)
            for name, counter in self._counts.items():
                total = float(endpoint[name])
                counter.add(labels, total - self._seen.get((name, labels), 0.0))
                self._seen[name, labels] = total
        for account in spend:
            self._spent.set(float(account["spent"]), (account["model"],))
            if account["cap"] is not None:
                self._cap.set(float(account["cap"]), (account["model"],))
