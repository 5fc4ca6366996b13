"""Traces: a span for each request, its stages below it, and nothing of what was sent."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from vectable.config import Settings
from vectable.database import Database
from vectable.server.app import create_app
from vectable.server.metrics import Metrics
from vectable.server.traces import TracedApp, TracedMeter, Traces

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_a_request_is_a_span_with_its_stages_below() -> None:
    exporter = InMemorySpanExporter()
    traces, metrics = Traces(exporter), Metrics()
    settings = Settings(db="memory:", fake_embeddings=True)
    async with await Database.open(settings=settings, meter=TracedMeter(metrics, traces)) as database:
        app: Any = TracedApp(create_app(database, settings, metrics=metrics), traces)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            headers = {"traceparent": f"00-{CALLER}-00f067aa0ba902b7-01", "x-request-id": "r-1"}
            body = {"text": "top secret"}
            answer = await client.post("/api/v1/embeddings/generate", json=body, headers=headers)
            assert answer.status_code == 200
            await client.get("/api/v1/tables/hidden_name")
            await client.get("/health")
    await asyncio.to_thread(traces.close)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    request = spans["POST /api/v1/embeddings/generate"]
    assert request.context is not None and f"{request.context.trace_id:032x}" == CALLER
    assert request.attributes is not None and request.attributes["vectable.request_id"] == "r-1"
    assert request.attributes["http.response.status_code"] == 200
    inference = spans["inference"]
    assert inference.parent is not None and inference.parent.span_id == request.context.span_id
    missing = spans["GET /api/v1/tables/{table}"]
    assert missing.attributes is not None and missing.attributes["error.type"] == "table-not-found"
    assert not any("health" in name for name in spans)
    told = "".join(span.to_json() for span in spans.values())
    assert "secret" not in told and "hidden" not in told
    assert sum(s.value for s in metrics.collected()["stage_seconds"].samples if s.name.endswith("_count")) > 0
