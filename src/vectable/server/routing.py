"""Routes: bodies are read within limits and parsed strictly before the framework sees them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vectable.core.context import Context
from vectable.errors import Unsupported
from vectable.ingest.strict_json import parse_json
from vectable.server.gate import STATE, Passage, log
from vectable.server.limits import Limits, read_body
from vectable.server.problems import internal_problem
from vectable.server.repeats import Fingerprint, Repeats, key_of

if TYPE_CHECKING:
    from vectable.database import Database

PRINCIPAL = "local"
Endpoint = Callable[..., Coroutine[Any, Any, Response]]
AnEndpoint = TypeVar("AnEndpoint", bound=Endpoint)
_WRITES: set[Endpoint] = set()
_READERS: set[Endpoint] = set()


def writes(endpoint: AnEndpoint) -> AnEndpoint:
    """Marks a POST that changes something: it honours Idempotency-Key."""
    _WRITES.add(endpoint)
    return endpoint


def reads_its_body(endpoint: AnEndpoint) -> AnEndpoint:
    """Marks a POST that changes something and reads its body itself: it has to call `once`."""
    _READERS.add(endpoint)
    return writes(endpoint)


def is_write(endpoint: Any) -> bool:
    """Whether the endpoint honours Idempotency-Key."""
    return endpoint in _WRITES


def database_of(request: Request) -> Database:
    """The database this application serves."""
    database: Database = request.app.state.database
    return database


def limits_of(request: Request) -> Limits:
    """The limits this application keeps."""
    limits: Limits = request.app.state.limits
    return limits


def passage_of(request: Request) -> Passage:
    """What the gate knows of the request."""
    passage: Passage = request.scope[STATE]
    return passage


def context_of(request: Request, *, writing: bool = False, unbounded: bool = False) -> Context:
    """Who asks, and until when. `writing`: with the Idempotency-Key. `unbounded`: without a deadline, for
    bodies of any length."""
    passage = passage_of(request)
    context = Context(
        principal=PRINCIPAL,
        deadline=None if unbounded else passage.deadline,
        request_id=passage.request_id,
    )
    return dataclasses.replace(context, idempotency_key=key_of(request)) if writing else context


def log_defect(error: Exception, request_id: str) -> dict[str, Any]:
    """Logs a defect of ours; the problem document that admits to it."""
    log.error("request %s failed", request_id, exc_info=error)
    return internal_problem(request_id)


def media_type_of(request: Request) -> str:
    """The body's media type, lower case, without parameters; "" where none was sent."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def check_encoding(request: Request) -> None:
    """Raises Unsupported for a compressed body."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise Unsupported(
            f"bodies encoded with {encoding[:40]!r} are not read", hint="send the body as it is"
        )


def is_json(media_type: str) -> bool:
    """Whether a body of that type is read as JSON. One without a type is: so it is written by hand."""
    subtype = media_type.removeprefix("application/")
    return not media_type or subtype == "json" or (subtype != media_type and subtype.endswith("+json"))


def unsupported_media_type(media_type: str, known: str) -> HTTPException:
    """The refusal of a body of that type."""
    return HTTPException(415, f"a body of type {media_type[:80]!r} is not read here, send {known}")


class Route(APIRoute):
    """An operation. A body it declares is JSON, read and parsed here; an operation marked by `writes` acts
    once per Idempotency-Key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        repeatable = is_write(self.endpoint)
        if self.endpoint in _READERS or (self.body_field is None and not repeatable):
            return handle
        field = self.body_field
        required = field is not None and field.field_info.is_required()

        async def read_then_handle(request: Request) -> Response:
            body = b"" if field is None else await _read_json(request, required)
            key = key_of(request) if repeatable else None
            if key is None:
                return await handle(request)
            return await once(request, key, Fingerprint(request, body), lambda: handle(request))

        return read_then_handle


async def once(
    request: Request,
    key: str,
    fingerprint: Fingerprint,
    work: Callable[[], Coroutine[Any, Any, Response]],
) -> Response:
    """The answer of `work`, or the one the same request was given before."""
    repeats: Repeats = request.app.state.repeats
    return await repeats.once(PRINCIPAL, key, fingerprint, work)


async def _read_json(request: Request, required: bool) -> bytes:
    """Puts the parsed body where the framework looks for it."""
    check_encoding(request)
    media_type = media_type_of(request)
    if not is_json(media_type):
        raise unsupported_media_type(media_type, "application/json")
    body = await read_body(request, limits_of(request).max_body)
    if not body and not required:
        request.__dict__.update(_body=b"")
        return body
    if not media_type:
        # The framework reads a body as JSON only where the media type says so.
        request.scope["headers"].append((b"content-type", b"application/json"))
        request.__dict__.pop("_headers", None)
    request.__dict__.update(_body=body, _json=parse_json(body))
    return body
