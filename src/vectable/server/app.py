"""The application: operations, errors and the gate before them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from vectable.config import Settings
from vectable.core.values import MAX_IMAGE
from vectable.errors import InvalidInput
from vectable.server.access import Access, Refusals
from vectable.server.dispatch import ByPath
from vectable.server.exposure import is_loopback
from vectable.server.fetch import Fetcher
from vectable.server.gate import Gate, Guard
from vectable.server.limits import Limits, share_of
from vectable.server.metrics import Metrics, Sampler
from vectable.server.openapi import describe_application
from vectable.server.problems import describe_invalid, http_code, http_response, response_of
from vectable.server.refusals import shaped
from vectable.server.repeats import Repeats
from vectable.server.routes import (
    attached,
    cache,
    columns,
    compare,
    embed,
    embeddings,
    health,
    indexes,
    jobs,
    observe,
    openai,
    rows,
    search,
    tables,
)
from vectable.server.routing import Route, passage_of
from vectable.server.source import TrustedProxies

if TYPE_CHECKING:
    from vectable.database import Database

_ROUTERS = (
    search,
    embed,
    openai,
    compare,
    cache,
    rows,
    embeddings,
    columns,
    indexes,
    tables,
    attached,
    jobs,
    observe,
    health,
)
"""Searches first: a path with parameters is found by looking through all of them."""


def package_version() -> str:
    """The installed version of Vectable."""
    try:
        return version("vectable")
    except PackageNotFoundError:
        return "0"


def create_app(
    database: Database, settings: Settings, limits: Limits | None = None, metrics: Metrics | None = None
) -> FastAPI:
    """The application that serves `database`, which stays its owner's to close. `settings.host` tells whether
    it is served on loopback, where only loopback's names are answered to. `metrics` should be the database's
    meter. Raises InvalidInput for settings that cannot be meant."""
    metrics = metrics or Metrics()
    loopback = is_loopback(settings.host)
    access = Access(
        database.keys,
        metrics,
        asks=not loopback and not settings.insecure,
        plain_http=settings.insecure,
        refusals=Refusals(share_of(settings.refusals_per_minute, settings.workers)),
    )
    guard = Guard(
        metrics,
        access,
        TrustedProxies(settings.trusted_proxies),
        frozenset({"/metrics"}) if settings.metrics_open else frozenset(),
    )
    app = build_app(settings, limits or Limits.of(settings), guard)
    app.state.database = database
    app.state.access = access
    app.state.metrics = metrics
    app.state.started = metrics.started
    app.state.guard = guard
    app.state.sampler = Sampler(metrics)
    app.state.repeats = Repeats(database.state)
    return app


def build_app(settings: Settings, limits: Limits, guard: Guard | None = None) -> FastAPI:
    """The application without a database: enough to describe itself."""
    app = FastAPI(
        title="Vectable",
        version=package_version(),
        summary="Tables that embed themselves.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ours are in traces.py and metrics/
    )
    app.state.limits = limits
    app.state.fetcher = Fetcher(MAX_IMAGE)
    for module in _ROUTERS:
        # Added one by one, not as routers: a router in a router is searched twice.
        app.router.routes.extend(module.router.routes)
    app.router.routes.insert(0, ByPath(app.router.routes))
    app.add_middleware(
        Gate,
        limits=limits,
        timeout_s=settings.request_timeout_ms / 1000,
        loopback=is_loopback(settings.host),
        guard=guard or Guard(Metrics()),
    )
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    describe_application(app)
    return app


async def _invalid(request: Request, error: Exception) -> Response:
    found: Any = error.errors() if isinstance(error, RequestValidationError) else ()
    passage = passage_of(request)
    passage.code = InvalidInput.code
    refusal = response_of(InvalidInput(describe_invalid(found)), passage.request_id)
    return shaped(request.scope["path"], refusal)


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    passage = passage_of(request)
    request_id = passage.request_id
    path: str = request.scope["path"]
    headers = dict(error.headers or {})
    if error.status_code == 404:
        detail, hint = f"there is nothing at {path[:200]!r}", "see / for what there is"
    elif error.status_code == 405:
        headers["Allow"] = _allowed(request)
        detail, hint = f"{passage.method} is not offered at {path[:200]!r}", f"offered: {headers['Allow']}"
    else:
        detail, hint = str(error.detail), None
    passage.code = http_code(error.status_code)
    return shaped(path, http_response(error.status_code, detail, request_id, headers, hint))


def _allowed(request: Request) -> str:
    """Every method offered at the request's path: the framework names only those of the first route there."""
    methods: set[str] = set()
    for route in request.app.router.routes:
        if isinstance(route, Route) and route.path_regex.match(request.scope["path"]):
            methods |= route.methods or set()
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))
