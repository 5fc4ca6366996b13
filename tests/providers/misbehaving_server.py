"""A real HTTP server in OpenAI's embeddings format that is honest until told to misbehave.

The failures are simulated; the sockets, the bytes and the client are real. Its vectors are those of the
hashing model.
"""

from __future__ import annotations

import base64
import gzip
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from tests.waiting import LIMIT_S
from vectable.providers.hashing import HashingProvider

Way = Callable[["Exchange"], None]
"""A way to answer."""


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def texts(self) -> list[str]:
        return self.body["input"]


@dataclass
class Exchange:
    """A request that is to be answered, with the honest answer."""

    server: MisbehavingServer
    handler: BaseHTTPRequestHandler
    request: Request
    answer: dict[str, Any]

    def send(self, content: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.handler.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.handler.send_header(name, value)
        if "content-length" not in (headers or {}):
            self.handler.send_header("content-length", str(len(content)))
        self.handler.end_headers()
        self.handler.wfile.write(content)

    def send_json(self, document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.send(json.dumps(document).encode(), status, headers)


@dataclass
class MisbehavingServer:
    """`ways`: how the next requests are answered; then `always`, then honestly."""

    dimensions: int
    url: str = ""
    seed: str = ""
    """Another one makes it another model, of another vector space."""
    requests: list[Request] = field(default_factory=list)
    ways: deque[Way] = field(default_factory=deque)
    always: Way | None = None
    most_at_once: int = 0
    at_once: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://").partition("/")[0]

    @property
    def texts(self) -> list[str]:
        """Every text it was sent, in order."""
        return [text for request in self.requests for text in request.texts]

    def misbehave(self, *ways: Way) -> None:
        """How the next requests are answered, one after the other."""
        self.ways.extend(ways)

    def vectors(self, texts: list[str]) -> np.ndarray:
        """What it honestly answers."""
        made = HashingProvider(self.dimensions).embed([self.seed + text for text in texts], "document")
        try:
            made.send(None)  # it never suspends, so no event loop is needed
        except StopIteration as done:
            return done.value
        raise AssertionError("the hashing model has suspended")

    def honest(self, request: Request) -> dict[str, Any]:
        packed = request.body.get("encoding_format") == "base64"
        tokens = sum(len(text.split()) for text in request.texts)
        return {
            "object": "list",
            "model": request.body["model"],
            "data": [
                {
                    "object": "embedding",
                    "index": i,
                    "embedding": base64.b64encode(v.tobytes()).decode() if packed else v.tolist(),
                }
                for i, v in enumerate(self.vectors(request.texts))
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        content = handler.rfile.read(int(handler.headers["content-length"]))
        request = Request(
            handler.path, {k.lower(): v for k, v in handler.headers.items()}, json.loads(content)
        )
        with self.lock:
            self.requests.append(request)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            way = self.ways.popleft() if self.ways else self.always or honestly
        try:
            way(Exchange(self, handler, request, self.honest(request)))
        finally:
            with self.lock:
                self.at_once -= 1


@contextmanager
def misbehaving_server(dimensions: int = 32, seed: str = "") -> Iterator[MisbehavingServer]:
    """Serves on a free port of this machine until left."""
    found = MisbehavingServer(dimensions, seed=seed)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            found.handle(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # clients that give up are part of the tests

    server = Server(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.released.set()
        server.shutdown()
        server.server_close()
        thread.join(LIMIT_S)


# -- ways to answer ------------------------------------------------------------------------------------------


def honestly(exchange: Exchange) -> None:
    exchange.send_json(exchange.answer)


def failing(status: int, message: str = "", retry_after: str | None = None, **error: Any) -> Way:
    """Answers with a status and an error in OpenAI's shape."""
    headers = {} if retry_after is None else {"retry-after": retry_after}

    def way(exchange: Exchange) -> None:
        exchange.send_json({"error": {"message": message, **error}}, status, headers)

    return way


def saying(content: bytes, status: int = 200, **headers: str) -> Way:
    """Answers with these bytes."""
    return lambda exchange: exchange.send(
        content, status, {k.replace("_", "-"): v for k, v in headers.items()}
    )


def never(exchange: Exchange) -> None:
    """Answers nothing for as long as the server runs."""
    exchange.server.released.wait(LIMIT_S)
    exchange.handler.close_connection = True


def dripping(exchange: Exchange) -> None:
    """Sends a byte of its answer now and then, so that no single read takes long."""
    exchange.handler.send_response(200)
    exchange.handler.send_header("content-length", "100000")
    exchange.handler.end_headers()
    while not exchange.server.released.wait(0.05):
        exchange.handler.wfile.write(b" ")


def resetting(exchange: Exchange) -> None:
    """Breaks the connection before any answer."""
    connection = exchange.handler.connection
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RD)
    exchange.handler.close_connection = True
    exchange.handler.rfile.close()
    exchange.handler.wfile.close()
    connection.close()


def truncating(exchange: Exchange) -> None:
    """Breaks the connection in the middle of its answer."""
    content = json.dumps(exchange.answer).encode()
    exchange.send(content[: len(content) // 2], headers={"content-length": str(len(content))})
    exchange.handler.wfile.flush()
    exchange.handler.close_connection = True


def compressed(exchange: Exchange) -> None:
    exchange.send(gzip.compress(json.dumps(exchange.answer).encode()), headers={"content-encoding": "gzip"})


def endless(exchange: Exchange) -> None:
    """Sends more than any right answer has."""
    exchange.handler.send_response(200)
    exchange.handler.end_headers()
    exchange.handler.close_connection = True
    while not exchange.server.released.is_set():
        exchange.handler.wfile.write(b"[" * 65_536)


def redirecting(location: str, status: int = 307) -> Way:
    return lambda exchange: exchange.send(b"", status, {"location": location})


def altered(change: Callable[[list[dict[str, Any]]], Any]) -> Way:
    """The honest answer with its list of vectors changed: by what `change` gives, or in place."""

    def way(exchange: Exchange) -> None:
        data = exchange.answer["data"]
        changed = change(data)
        exchange.send_json({**exchange.answer, "data": data if changed is None else changed})

    return way


def setting(position: int, embedding: Any) -> Way:
    """The honest answer with one vector replaced."""

    def change(data: list[dict[str, Any]]) -> None:
        data[position]["embedding"] = embedding

    return altered(change)
