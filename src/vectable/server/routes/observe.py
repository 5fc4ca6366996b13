"""The server in figures: for Prometheus, and for people."""

from __future__ import annotations

import asyncio
import time

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from vectable.errors import Overloaded
from vectable.server.answers import answer
from vectable.server.gate import Guard
from vectable.server.metrics import Metrics, Sampler, summary
from vectable.server.models.observe import Live, Ready, Stats
from vectable.server.routing import Route, database_of
from vectable.server.spec import responses

router = APIRouter(tags=["health"], route_class=Route)
_READY_WITHIN_S = 2.0
_LATENCY = {"count": 1841, "p50": 3.9, "p95": 6.2, "p99": 8.8}
_EXAMPLE = {
    "uptime": 3600.5,
    "requests": {"total": 1841, "inFlight": 1, "perSecond": 0.511, "perSecondLastMinute": 12.4},
    "latency": {
        "total": _LATENCY,
        "tokenise": {"count": 950, "p50": 0.05, "p95": 0.08, "p99": 0.2},
        "queue": {"count": 950, "p50": 0.02, "p95": 2.1, "p99": 4.0},
        "inference": {"count": 950, "p50": 3.1, "p95": 4.9, "p99": 7.0},
        "search": {"count": 88, "p50": 0.4, "p95": 0.9, "p99": 1.4},
    },
    "routes": {"/embed/text": _LATENCY},
    "embedded": {"items": 1022, "tokens": 14310, "itemsPerSecondLastMinute": 9.1, "itemsPerBatch": 1.08},
    "cache": {"size": 812, "bytes": 1435616, "hits": 4120, "misses": 812, "hitRate": 0.8354},
    "memory": {"bytes": 251658240, "residentIndexes": 0},
    "errors": {"model-not-found": 2},
    "refusals": {"no-key": 1},
}


@router.get("/health/live", summary="Tell that it lives", responses=responses(Live, {"status": "alive"}))
async def live(request: Request) -> Response:
    """The process answers. Says nothing of the database: a restart would not mend that."""
    return answer({"status": "alive"})


@router.get(
    "/health/ready", summary="Tell whether it is ready", responses=responses(Ready, {"status": "ready"})
)
async def ready(request: Request) -> Response:
    """Whether requests should be sent here: the database answers. 503 otherwise."""
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            await database_of(request).state.get(["ready"])
    except TimeoutError:
        raise Overloaded(
            "the database has not answered in time", hint="ask again", context={"retry_after_s": 2}
        ) from None
    return answer({"status": "ready"})


@router.get(
    "/metrics",
    summary="Measure, for Prometheus",
    response_class=Response,
    responses={
        **responses(None),
        200: {
            "description": "Every metric, of all worker processes, in Prometheus' text format.",
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "example": 'vectable_requests_total{method="GET",route="/health",status="200"} 7.0\n',
                }
            },
        },
    },
)
async def metrics(request: Request) -> Response:
    """Counters and histograms since the start. Needs a key as other reads do, unless it is opened."""
    found: Metrics = request.app.state.metrics
    await _sample(request)
    return Response(generate_latest(found.registry()), media_type=CONTENT_TYPE_LATEST)


async def _sample(request: Request) -> None:
    sampler: Sampler = request.app.state.sampler
    guard: Guard = request.app.state.guard
    await sampler.sample(database_of(request), guard.in_flight)


@router.get("/stats", summary="Measure, for people", responses=responses(Stats, _EXAMPLE))
async def stats(request: Request) -> Response:
    """Percentiles, throughput, cache, memory and errors since the start, of all worker processes."""
    state = request.app.state
    await _sample(request)
    return answer(summary(state.metrics, state.sampler, time.monotonic() - state.started))
