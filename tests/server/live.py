"""A real server on a real socket, in a thread of this process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from tests.waiting import LIMIT_S
from vectable.config import Settings
from vectable.database import Database
from vectable.server.app import create_app
from vectable.server.limits import Limits
from vectable.server.metrics import Metrics
from vectable.server.run import listen, url_of


@dataclass
class Live:
    """`loop` is the server's; `database` may only be used there."""

    url: str
    client: httpx.Client
    database: Database
    loop: asyncio.AbstractEventLoop

    def on_loop(self, work: Any) -> Any:
        """The result of a coroutine of the database."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(LIMIT_S)

    def raw(self, data: bytes, until_closed: bool = True) -> bytes:
        """What the server answers to bytes sent as they are."""
        port = int(self.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as connection:
            connection.sendall(data)
            received = b""
            while chunk := connection.recv(65_536):
                received += chunk
        return received


@contextmanager
def live_server(url: str, limits: Limits | None = None, **settings: Any) -> Iterator[Live]:
    """Serves the database at `url` on a free port until left."""
    listener = listen("127.0.0.1", 0)
    started = threading.Event()
    found: dict[str, Any] = {}

    async def run() -> None:
        own = Settings(db=url, **settings)
        metrics = Metrics()
        async with await Database.open(settings=own, meter=metrics) as database:
            app = create_app(database, own, limits or Limits(), metrics)
            config = uvicorn.Config(
                app, lifespan="off", log_config=None, server_header=False, timeout_graceful_shutdown=5
            )
            found.update(server=uvicorn.Server(config), database=database, loop=asyncio.get_running_loop())
            started.set()
            await found["server"].serve(sockets=[listener])

    def work() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            found["error"] = error
            started.set()

    thread = threading.Thread(target=work, name="server", daemon=True)
    thread.start()
    assert started.wait(LIMIT_S)
    if "error" in found:
        raise found["error"]
    address = url_of(listener)
    with httpx.Client(base_url=address, timeout=LIMIT_S) as client:
        try:
            yield Live(address, client, found["database"], found["loop"])
        finally:
            found["server"].should_exit = True
            thread.join(LIMIT_S)
            listener.close()
    if "error" in found:
        raise found["error"]
