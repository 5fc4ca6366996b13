"""What every request passes: a request id, the Host it asked for, room for it, a deadline, safe headers.

Plain ASGI, because it is on the way of every request: it costs some ten microseconds.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vectable.errors import AccessDenied, InvalidInput, Overloaded, VectableError
from vectable.server.limits import Limits
from vectable.server.problems import internal_response, response_of
from vectable.server.refusals import shaped

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
_POLICY = b"content-security-policy"
_NOTHING = b"default-src 'none'; frame-ancestors 'none'"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "ip6-localhost"})


@dataclass(slots=True)
class Passage:
    """What the gate knows of a request. `deadline` is in seconds of `time.monotonic()`."""

    request_id: str
    method: str
    deadline: float
    release: Callable[[], None]
    """The request needs no room any more: it only listens."""
    started: bool = False


class Gate:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, *, limits: Limits, timeout_s: float, loopback: bool) -> None:
        self._app = app
        self._limits = limits
        self._timeout_s = timeout_s
        self._hosts = (_LOOPBACK_NAMES | limits.allowed_hosts) if loopback else frozenset()
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode("ascii") if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        room = _Room(self)
        method = scope["method"]
        passage = Passage(request_id, method, time.monotonic() + self._timeout_s, room.give_back)
        if method == "HEAD":
            # Whatever GET answers, less its body. The caller's scope stays: the server goes by its method.
            scope, send = {**scope, "method": "GET"}, _head_only(send)
        scope[STATE] = passage

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                passage.started = True
                own = message["headers"] = list(message.get("headers", ()))
                own.append((b"x-request-id", request_id.encode("ascii")))
                own.extend(_HEADERS)
                if not any(name == _POLICY for name, _ in own):
                    own.append((_POLICY, _NOTHING))
            await send(message)

        try:
            self._check_source(method, headers)
            if not scope["path"].startswith("/health"):
                room.take(self._limits.max_in_flight)
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            log.debug("client went away, request %s", request_id)
        except asyncio.CancelledError:
            # Requests are cancelled only by a server that stops and has waited for them long enough.
            if not passage.started:
                stopping = shaped(scope["path"], response_of(_stopping(), request_id))
                await stopping(scope, receive, answer)
        except Exception as error:
            if passage.started:
                raise
            failure = shaped(scope["path"], _failure(error, scope, request_id))
            await failure(scope, receive, answer)
        finally:
            room.give_back()

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

    __slots__ = ("_gate", "_taken")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._taken = False

    def take(self, most: int) -> None:
        if self._gate.in_flight >= most:
            raise Overloaded(
                f"{self._gate.in_flight} requests are being worked on",
                hint="come back in a second",
                context={"retry_after_s": 1},
            )
        self._gate.in_flight += 1
        self._taken = True

    def give_back(self) -> None:
        if self._taken:
            self._taken = False
            self._gate.in_flight -= 1


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


def _failure(error: Exception, scope: Scope, request_id: str) -> Response:
    if isinstance(error, VectableError):
        return response_of(error, request_id)
    log.error("request %s: %s failed", request_id, scope["method"], exc_info=error)
    return internal_response(request_id)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether a server bound to `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
