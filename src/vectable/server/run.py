"""`vectable serve`: a database behind uvicorn, on this machine unless told otherwise."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import uvicorn

from vectable.config import Settings
from vectable.database import Database
from vectable.errors import AccessDenied, Conflict, InvalidInput, VectableError
from vectable.server.app import create_app
from vectable.server.gate import is_loopback
from vectable.server.limits import Limits

log = logging.getLogger("vectable.server")
_BACKLOG = 2_048
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
Ready = Callable[[str], None]
"""Called with the server's URL once it answers."""


def check_address(host: str, insecure: bool) -> None:
    """Raises AccessDenied for an address others can reach, unless `insecure`: nobody is asked for a key."""
    if insecure or is_loopback(host):
        return
    raise AccessDenied(
        f"{host!r} can be reached from other machines, and this server asks nobody for a key",
        hint="serve on 127.0.0.1, or say --insecure if everybody who can reach it may do everything",
    )


def serve(settings: Settings, *, insecure: bool | None = None, ready: Ready | None = None) -> None:
    """Serves `settings.db` until interrupted: requests under way are finished, jobs are left to whoever opens
    the database next. Port 0 takes a free one. Raises AccessDenied (see `check_address`), Conflict when the
    port is taken, and what opening the database raises."""
    open_to_others = settings.insecure if insecure is None else insecure
    check_address(settings.host, open_to_others)
    listener = listen(settings.host, settings.port)
    if not is_loopback(settings.host):
        log.warning("%s: no keys, no TLS; everybody who can reach it may do everything", settings.host)
    with listener:
        config = uvicorn.Config("", log_config=None)
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_serve(settings, listener, ready))


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


async def _serve(settings: Settings, listener: socket.socket, ready: Ready | None) -> None:
    settings = dataclasses.replace(settings, model_paths=False)
    workers = ThreadPoolExecutor(settings.max_workers, thread_name_prefix="worker")
    asyncio.get_running_loop().set_default_executor(workers)
    async with await Database.open(settings=settings) as database:
        app = create_app(database, settings, Limits.of(settings))
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=math.ceil(settings.shutdown_grace_ms / 1_000),
            backlog=_BACKLOG,
        )
        server = _Server(config)
        if ready is not None:
            ready(url_of(listener))
        beside = [asyncio.create_task(database.tend(), name="tend")]
        beside.append(asyncio.create_task(_load_models(database, settings), name="load models"))
        try:
            await server.serve(sockets=[listener])
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)


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


def url_of(listener: socket.socket) -> str:
    """The URL under which a listening socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
