"""Metrics: what is counted, summed up, and at what price."""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.providers.misbehaving_server import failing, misbehaving_server
from tests.server.live import Live, live_server
from tests.waiting import until
from vectable.providers.guard import spend
from vectable.server.metrics import Metrics
from vectable.server.metrics.summary import percentile


@pytest.fixture(scope="module")
def measured() -> Iterator[Live]:
    with live_server("memory:", fake_embeddings=True) as server:
        client = server.client
        client.post("/api/v1/tables", json={"name": "docs", "columns": {"title": "string"}})
        column = {"name": "meaning", "source_column": "title", "model": "all-MiniLM-L6-v2"}
        client.post("/api/v1/tables/docs/columns/computed/embedding", json=column)
        client.post("/api/v1/tables/docs/rows", json={"rows": [{"id": "1", "title": "tea"}]})
        client.post(
            "/api/v1/tables/docs/search/similarity", json={"query": "green secret tea", "column": "meaning"}
        )
        client.post("/api/v1/tables/docs/query", json={"where": {"sql": "nothing = 1"}})
        client.get("/api/v1/tables/docs/rows/secret-row")
        client.get("/no/such/secret-path")
        client.request("PURGE", "/health")
        yield server


def values(live: Live) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = live.client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_requests_are_counted_by_route_and_errors_by_code(measured: Live) -> None:
    found = values(measured)

    def of(name: str, **labels: str) -> float:
        return found.get((name, frozenset(labels.items())), 0.0)

    search = "/api/v1/tables/{table}/search/similarity"
    assert of("vectable_requests_total", method="POST", route=search, status="200") == 1
    assert of("vectable_request_seconds_count", route=search) == 1
    assert of("vectable_requests_total", method="GET", route="none", status="404") == 1
    assert of("vectable_requests_total", method="other", route="/health", status="405") == 1
    assert of("vectable_errors_total", code="row-not-found") == 1
    assert of("vectable_errors_total", code="not-found") == 1
    assert (
        of("vectable_errors_total", code="invalid-filter")
        + of("vectable_errors_total", code="unknown-column")
        == 1
    )
    for stage in ("inference", "search"):
        assert of("vectable_stage_seconds_count", stage=stage) >= 1
    assert of("vectable_batch_items_count") >= 2
    assert any(name == "vectable_queue_items" for name, _ in found)
    assert of("vectable_stage_seconds_count", stage="queue") >= 1
    assert of("vectable_memory_bytes") > 10 << 20
    assert of("vectable_cache_misses_total") >= 2
    assert of("vectable_cache_entries") >= 2


def test_nothing_that_was_sent_is_in_them(measured: Live) -> None:
    text = measured.client.get("/metrics").text + measured.client.get("/stats").text
    assert "secret" not in text
    assert "docs" not in text, "not even names of tables"


def test_stats_are_for_people(measured: Live) -> None:
    found = measured.client.get("/stats").json()
    assert found["requests"]["total"] >= 7
    total = found["latency"]["total"]
    assert 0 < total["p50"] <= total["p95"] <= total["p99"]
    assert found["latency"]["search"]["count"] >= 1
    assert found["errors"]["row-not-found"] == 1
    assert found["embedded"]["items"] >= 2
    assert found["memory"]["bytes"] > 10 << 20
    assert found["routes"]["/api/v1/tables"]["count"] >= 1


def test_requests_are_logged_by_route_without_what_they_hold(
    measured: Live, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "vectable.server"):
        measured.client.post(
            "/api/v1/tables/docs/query",
            json={"where": {"sql": "title = ?", "params": ["top secret"]}},
            headers={"X-Request-Id": "r-1"},
        )
        # The line is written when the answer is on its way already.
        [record] = until(lambda: [r for r in caplog.records if getattr(r, "request_id", "") == "r-1"])
    facts = {name: getattr(record, name) for name in ("method", "route", "status")}
    assert facts == {"method": "POST", "route": "/api/v1/tables/{table}/query", "status": 200}
    assert not hasattr(record, "principal"), "nobody was asked for a key"
    assert "secret" not in json.dumps(vars(record), default=str)


def test_a_percentile_lies_within_its_bucket() -> None:
    bounds = [0.001, 0.01, 0.1, float("inf")]
    assert percentile(bounds, [0, 100, 100, 100], 0.5) == pytest.approx(0.0055)
    assert percentile(bounds, [100, 100, 100, 100], 0.99) == pytest.approx(0.00099)
    assert percentile(bounds, [0, 0, 0, 100], 0.5) == 0.1, "beyond the last bound"
    assert percentile(bounds, [0, 1, 2, 2], 1.0) == pytest.approx(0.1)


NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
MODELS = """
[models.cloud]
provider = "openai"
url = "{url}"
dimensions = 32
price_per_million_tokens = 20000
daily_spend_cap = 100
first_wait_s = 0.001
max_attempts = 1
breaker_failures = 2
"""


def test_endpoints_breakers_and_spend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VECTABLE_FAKE_EMBEDDINGS")
    monkeypatch.setattr(spend, "utc_now", lambda: NOON)
    with misbehaving_server() as endpoint:
        file = tmp_path / "models.toml"
        file.write_text(MODELS.format(url=endpoint.url))
        with live_server("memory:", models_file=str(file)) as live:

            def embed(text: str) -> int:
                body = {"text": text, "model": "cloud"}
                return live.client.post("/api/v1/embeddings/generate", json=body).status_code

            assert embed("a") == 200
            endpoint.misbehave(failing(500), failing(500))
            assert [embed("b"), embed("c"), embed("d")] == [503, 503, 503]
            text = live.client.get("/metrics").text
    found = {
        sample.name.removeprefix("vectable_"): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("model") == "cloud"
    }
    assert found["breaker_state"] == 2
    assert found["endpoint_requests_total"] == 3
    assert found["endpoint_failed_total"] == 2
    assert found["endpoint_refused_total"] >= 1
    assert 0 < found["spend_today"] < found["spend_cap"] == 100


def test_connections_to_postgres(postgres_url: str) -> None:
    with live_server(postgres_url, fake_embeddings=True) as live:
        assert live.client.get("/health/ready").status_code == 200
        found = values(live)
    assert found["vectable_postgres_connections", frozenset()] >= 1
    assert found["vectable_postgres_waiting", frozenset()] == 0


def test_names_are_of_prometheus_form() -> None:
    for metric in Metrics().collect():
        assert re.fullmatch(r"vectable_[a-z_]+", metric.name), metric.name
        assert metric.documentation.endswith(".")


def test_readiness_is_the_databases(measured: Live) -> None:
    assert measured.client.get("/health/live").json() == {"status": "alive"}
    assert measured.client.get("/health/ready").json() == {"status": "ready"}


def test_a_listener_does_not_count_as_a_slow_request() -> None:
    metrics = Metrics()
    metrics.request("GET", "/events", 200, None)
    found = metrics.collected()
    assert sum(s.value for s in found["requests"].samples if s.name.endswith("_total")) == 1
    assert sum(s.value for s in found["request_seconds"].samples if s.name.endswith("_count")) == 0


def _one_request(metrics: Metrics) -> None:
    metrics.took("tokenise", 0.0001)
    metrics.took("queue", 0.0001)
    metrics.took("inference", 0.003)
    metrics.batch("a-model", 1, 12)
    metrics.request("POST", "/embed/text", 200, 0.004)


def test_measuring_costs_a_fixed_number_of_observations() -> None:
    metrics = Metrics()
    for _ in range(10):
        _one_request(metrics)
    found = {name: len(metric.samples) for name, metric in metrics.collected().items()}
    for _ in range(1_000):
        _one_request(metrics)
    assert {name: len(metric.samples) for name, metric in metrics.collected().items()} == found


if __name__ == "__main__":
    subject = Metrics()
    for _ in range(1_000):
        _one_request(subject)
    began = time.perf_counter()
    for _ in range(20_000):
        _one_request(subject)
    print(f"{(time.perf_counter() - began) / 20_000 * 1e6:.1f} µs a request")
