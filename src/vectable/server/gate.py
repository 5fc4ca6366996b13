"""What every request passes: a request id, the Host it asked for, who asks, room for it, a deadline, safe
headers; and where it is measured.

Plain ASGI, because it is on the way of every request: it costs some ten microseconds.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vectable.errors import AccessDenied, InvalidInput, Overloaded, VectableError
from vectable.server.access import ANYBODY, Access, Caller
from vectable.server.clients import Clients
from vectable.server.limits import Limits
from vectable.server.metrics import Metrics
from vectable.server.problems import INTERNAL, internal_response, response_of
from vectable.server.refusals import shaped
from vectable.server.source import Source, TrustedProxies

log = logging.getLogger("vectable.server")
STATE = "vectable"
"""Where in the ASGI scope the request's `Passage` is."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_GONE = 499
"""Counted where the client left before its answer."""
_POLICY = b"content-security-policy"
_NOTHING = b"default-src 'none'; frame-ancestors 'none'"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "ip6-localhost"})


@dataclass(slots=True)
class Passage:
    """What the gate knows of a request. `deadline` is in seconds of `time.monotonic()`."""

    request_id: str
    method: str
    source: Source
    deadline: float
    release: Callable[[], None]
    """The request needs no room any more: it only listens."""
    caller: Caller = ANYBODY
    status: int = 0
    """What it was answered with, once it is."""
    code: str = ""
    """The code of the problem it was answered with."""

    @property
    def started(self) -> bool:
        """Whether the answer is on its way."""
        return self.status != 0


@dataclass(slots=True)
class Guard:
    """What the gate goes by beside its limits. `access`: None where nobody is asked for a key. `open_paths`:
    those that ask nobody, beside /health."""

    metrics: Metrics
    access: Access | None = None
    proxies: TrustedProxies = field(default_factory=lambda: TrustedProxies(""))
    open_paths: frozenset[str] = frozenset()
    in_flight: int = 0


class Gate:
    """The outermost layer of the application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        timeout_s: float,
        loopback: bool,
        guard: Guard,
    ) -> None:
        self._app = app
        self._guard = guard
        self._limits = limits
        self._timeout_s = timeout_s
        self._hosts = (_LOOPBACK_NAMES | limits.allowed_hosts) if loopback else frozenset()
        self._clients = Clients(limits.client_requests_per_minute)

    @property
    def in_flight(self) -> int:
        """Requests being worked on."""
        return self._guard.in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode("ascii") if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        room = _Room(self._guard)
        began = time.monotonic()
        source = self._guard.proxies.source(scope, headers)
        passage = Passage(request_id, scope["method"], source, began + self._timeout_s, room.leave)
        if passage.method == "HEAD":
            # Whatever GET answers, less its body. The caller's scope stays: the server goes by its method.
            scope, send = {**scope, "method": "GET"}, _head_only(send)
        scope[STATE] = passage
        answer = _answering(send, passage)
        try:
            self._check_source(passage.method, headers)
            await self._enter(scope["path"], headers, passage, room)
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            log.debug("client went away, request %s", request_id)
        except asyncio.CancelledError:
            # Requests are cancelled only by a server that stops and has waited for them long enough.
            if not passage.started:
                stopping = shaped(scope["path"], _failure(_stopping(), passage))
                await stopping(scope, receive, answer)
        except Exception as error:
            if passage.started:
                raise
            failure = shaped(scope["path"], _failure(error, passage))
            await failure(scope, receive, answer)
        finally:
            room.give_back()
            self._tell(scope, passage, None if room.left else time.monotonic() - began)

    async def _enter(self, path: str, headers: dict[bytes, bytes], passage: Passage, room: _Room) -> None:
        """Takes room for a request of somebody who may make one; how the server is, anybody may ask."""
        if path.startswith("/health"):
            return
        room.take(self._limits.max_in_flight)
        if self._guard.access is not None and path not in self._guard.open_paths:
            found = await self._guard.access.caller(headers.get(b"authorization"), passage.source)
            passage.caller = found
        known = passage.caller.key is not None
        self._clients.admit(passage.caller.principal if known else passage.source.address)

    def _tell(self, scope: Scope, passage: Passage, seconds: float | None) -> None:
        """Counts the request, and logs it where that is asked for: by its route, never by what it holds.
        `seconds` is None for one that only listened."""
        route = getattr(scope.get("route"), "path_format", "") or "none"
        method = passage.method if passage.method in _METHODS else "other"
        status = passage.status or _GONE
        self._guard.metrics.request(method, route, status, seconds)
        if passage.code:
            self._guard.metrics.failed(passage.code)
        if log.isEnabledFor(logging.INFO):
            facts = {
                "request_id": passage.request_id,
                "method": method,
                "route": route,
                "status": status,
                "ms": None if seconds is None else round(seconds * 1_000, 3),
                "client": passage.source.address,
            }
            if passage.caller.key is not None:
                facts["principal"] = passage.caller.principal
            log.info("request", extra=facts | ({"code": passage.code} if passage.code else {}))

    def _check_source(self, method: str, headers: dict[bytes, bytes]) -> None:
        """A web page may not reach a server on this machine: neither under a name that was made to point here
        (DNS rebinding), nor by a form sent across origins."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self._hosts and _without_port(host) not in self._hosts:
            raise InvalidInput(
                f"this server does not answer under the name {_without_port(host)[:80]!r}",
                hint="use localhost, or name it in VECTABLE_ALLOWED_HOSTS",
            )
        origin = headers.get(b"origin")
        if origin is None or method in _SAFE_METHODS:
            return
        if origin.decode("latin-1").lower().partition("://")[2] != host:
            raise AccessDenied(
                "a web page of another origin may not change anything here",
                hint="call the server from its own origin, or not from a browser",
            )


class _Room:
    """One request's place among those worked on at once."""

    __slots__ = ("_guard", "_taken", "left")

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._taken = False
        self.left = False
        """Its request went on without room."""

    def leave(self) -> None:
        """The request goes on, and needs no room for that."""
        self.left = True
        self.give_back()

    def take(self, most: int) -> None:
        if self._guard.in_flight >= most:
            raise Overloaded(
                f"{self._guard.in_flight} requests are being worked on",
                hint="come back in a second",
                context={"retry_after_s": 1},
            )
        self._guard.in_flight += 1
        self._taken = True

    def give_back(self) -> None:
        if self._taken:
            self._taken = False
            self._guard.in_flight -= 1


def _answering(send: Send, passage: Passage) -> Send:
    """Sends an answer with the headers that every answer has."""
    request_id = passage.request_id.encode("ascii")

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            passage.status = message["status"]
            own = message["headers"] = list(message.get("headers", ()))
            own.append((b"x-request-id", request_id))
            own.extend(_HEADERS)
            if passage.source.encrypted:
                own.append(_TRANSPORT)
            if not any(name == _POLICY for name, _ in own):
                own.append((_POLICY, _NOTHING))
        await send(message)

    return send_with_headers


def _head_only(send: Send) -> Send:
    """Sends a response without its body. One that goes on is ended at its beginning."""

    async def send_head(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        if message.get("more_body"):
            raise ClientDisconnect

    return send_head


def _stopping() -> Overloaded:
    return Overloaded(
        "the server is shutting down",
        hint="send the request again once it is back; with an Idempotency-Key it acts once",
        context={"retry_after_s": 5},
    )


def _failure(error: Exception, passage: Passage) -> Response:
    if isinstance(error, VectableError):
        passage.code = error.code
        return response_of(error, passage.request_id)
    passage.code = INTERNAL
    log.error("request %s: %s failed", passage.request_id, passage.method, exc_info=error)
    return internal_response(passage.request_id)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
