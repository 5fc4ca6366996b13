"""OpenTelemetry traces: a span for every request, and one below it for every stage of its work.

Needs `vectable[traces]`. Where spans go is said by OpenTelemetry's own variables, as
OTEL_EXPORTER_OTLP_ENDPOINT. No span holds a text, a key or the name of anything but routes and models.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vectable.core.meter import Meter, Stage
from vectable.errors import Unsupported
from vectable.server.gate import STATE, Passage

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

_CARRIED = ("traceparent", "tracestate", "baggage")


class Traces:
    """Where the spans of one server go. Belongs to no global state."""

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        """`exporter` None: over OTLP. Raises Unsupported where OpenTelemetry is not installed."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise Unsupported(
                "traces need OpenTelemetry, which is not installed", hint="pip install 'vectable[traces]'"
            ) from None
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over the name given here.
        resource = Resource({"service.name": "vectable"}).merge(Resource.create())
        self._provider: TracerProvider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self.tracer = self._provider.get_tracer("vectable")

    def close(self) -> None:
        """Sends what is left. Takes seconds where nobody listens."""
        self._provider.shutdown()


class TracedMeter:
    """A `Meter` that hands on to another, and records each stage below the request it was done for."""

    def __init__(self, meter: Meter, traces: Traces) -> None:
        self._meter = meter
        self._tracer = traces.tracer

    def took(self, stage: Stage, seconds: float) -> None:
        """One piece of work spent that long in that stage: it ends now."""
        self._meter.took(stage, seconds)
        end = time.time_ns()
        self._tracer.start_span(stage, start_time=end - int(seconds * 1e9)).end(end)

    def batch(self, model: str, items: int, tokens: int) -> None:
        """A model was given that much at once."""
        self._meter.batch(model, items, tokens)


class TracedApp:
    """An application whose requests are spans. They continue the trace of the caller that sends one."""

    def __init__(self, app: ASGIApp, traces: Traces) -> None:
        self._app = app
        self._tracer = traces.tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/health"):
            await self._app(scope, receive, send)
            return
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, Status, StatusCode

        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        context = extract({name: given[name] for name in _CARRIED if name in given})
        status = 0

        async def noticing(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method = scope["method"]
        with self._tracer.start_as_current_span(method, context, SpanKind.SERVER) as span:
            try:
                await self._app(scope, receive, noticing)
            finally:
                span.set_attributes(_attributes(scope, status))
                span.update_name(f"{method} {_route(scope)}")
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path_format", "") or "none"


def _attributes(scope: Scope, status: int) -> dict[str, Any]:
    passage: Passage | None = scope.get(STATE)
    found = {
        "http.request.method": scope["method"],
        "http.route": _route(scope),
        "http.response.status_code": status,
    }
    if passage is not None:
        found["vectable.request_id"] = passage.request_id
        if passage.code:
            found["error.type"] = passage.code
    return found
