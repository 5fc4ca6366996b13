"""`vectable serve`: a database behind uvicorn, on this machine unless told otherwise."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import math
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import uvicorn

from vectable.config import Settings
from vectable.database import Database
from vectable.errors import Conflict, InvalidInput, VectableError
from vectable.server.app import create_app
from vectable.server.exposure import check_keys, check_transport
from vectable.server.gate import Guard
from vectable.server.limits import Limits
from vectable.server.metrics import Metrics, keep_sampling
from vectable.server.tls import Certificate, certificate_of
from vectable.server.traces import TracedApp, TracedMeter, Traces

log = logging.getLogger("vectable.server")
_BACKLOG = 2_048
_KEEP_ALIVE_S = 75
"""How long a connection may rest: longer than proxies keep theirs, which send into one that is being closed
otherwise, and may not send a POST again."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
Ready = Callable[[str], None]
"""Called with the server's URL once it answers."""


def serve(settings: Settings, *, ready: Ready | None = None) -> None:
    """Serves `settings.db` until interrupted: requests under way are finished, jobs are left to whoever opens
    the database next. Port 0 takes a free one. Raises AccessDenied for an address others can reach without
    key or TLS, Conflict when the port is taken, InvalidInput, and what opening the database raises."""
    check_transport(settings)
    certificate = certificate_of(settings.tls_cert, settings.tls_key)
    listener = listen(settings.host, settings.port)
    url = url_of(listener, encrypted=certificate is not None)
    with listener:
        if settings.workers > 1 or settings.reload:
            from vectable.server.supervise import supervise

            supervise(settings, listener, lambda: ready(url) if ready else None)
        else:
            run_server(serve_listener(settings, listener, certificate, lambda: ready(url) if ready else None))


def run_server(work: Coroutine[Any, Any, None]) -> None:
    """Runs a server's work on the kind of loop that suits it."""
    config = uvicorn.Config("", log_config=None)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(work)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises Conflict when the port is taken, InvalidInput for an unusable address."""
    if not 0 <= port <= 65_535:
        raise InvalidInput(f"{port} is not a port", hint="ports are 0 (any free one) to 65535")
    bare = host.strip("[]")
    try:
        family = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((bare, port), family=family, backlog=_BACKLOG)
        # Connections inherit it. Without, an answer's body waits 40 ms for the receipt of its head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and not isinstance(error, socket.gaierror):
            raise Conflict(
                f"{host}:{port} cannot be listened on: {error.strerror or error}",
                hint="choose another --port",
            ) from None
        raise InvalidInput(f"{host!r} is not an address of this machine") from None


class _Server(uvicorn.Server):
    """Stops on SIGINT and SIGTERM and lets the caller go on: uvicorn's own raises the signal again once it
    has stopped, which would end the process before the database is closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


async def serve_listener(
    settings: Settings, listener: socket.socket, certificate: Certificate | None, ready: Callable[[], None]
) -> None:
    """Serves on a socket that listens already, until this process is told to stop. `ready` is called once
    the database is open."""
    settings = dataclasses.replace(settings, model_paths=False)
    workers = ThreadPoolExecutor(settings.max_workers, thread_name_prefix="worker")
    asyncio.get_running_loop().set_default_executor(workers)
    metrics = Metrics.of_this_process()
    traces = Traces() if settings.traces else None
    meter = TracedMeter(metrics, traces) if traces else metrics
    async with await Database.open(settings=settings, meter=meter) as database:
        await check_keys(settings, database.keys)
        app = create_app(database, settings, Limits.of(settings), metrics)
        server = _Server(
            uvicorn.Config(
                TracedApp(app, traces) if traces else app,
                lifespan="off",
                http=_protocol(),
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=math.ceil(settings.shutdown_grace_ms / 1_000),
                timeout_keep_alive=_KEEP_ALIVE_S,
                backlog=_BACKLOG,
                ssl_context_factory=None if certificate is None else lambda *_: certificate.context,
            )
        )
        # What is here now stays: a full collection that looks at it again holds up requests for 50 ms.
        gc.collect()
        gc.freeze()
        ready()
        guard: Guard = app.state.guard
        measuring = keep_sampling(metrics, app.state.sampler, database, lambda: guard.in_flight)
        beside = [database.tend(), _load_models(database, settings), measuring]
        if certificate is not None:
            beside.append(certificate.keep_fresh())
        tasks = [asyncio.create_task(work) for work in beside]
        try:
            await server.serve(sockets=[listener])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            if traces is not None:
                await asyncio.to_thread(traces.close)


def _protocol() -> Any:
    if find_spec("httptools") is None:  # not everywhere: uvicorn has a slower one
        return "auto"
    from vectable.server.protocol import JoiningProtocol

    return JoiningProtocol


async def _load_models(database: Database, settings: Settings) -> None:
    """So that their first use does not pay for it. Of the default models, loads what is on this machine: a
    download nobody asked for is not begun. Never fails the server."""
    defaults = [None, database.embedder.models.image()] if settings.preload else []
    for name in defaults[:1] + [name for name in defaults[1:] if name]:
        await _load_ahead(database, name, fetch=False)
    for name in settings.preloaded_models:
        await _load_ahead(database, name, fetch=True)


async def _load_ahead(database: Database, name: str | None, *, fetch: bool) -> None:
    called = name or "the default model"
    try:
        if fetch or (await database.embedder.card(name)).cached:
            await database.embedder.preload(name)
    except VectableError as error:
        log.warning("%s could not be loaded ahead of its first use: %s", called, error)
    except Exception:
        log.exception("loading %s ahead of its first use has failed", called)


def url_of(listener: socket.socket, encrypted: bool = False) -> str:
    """The URL under which a listening socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if encrypted else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
