"""Routes: bodies are read within limits and parsed strictly before the framework sees them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from vectable.core.context import Context
from vectable.engine.keys import Role
from vectable.errors import InvalidInput, Unsupported
from vectable.ingest.strict_json import parse_json
from vectable.server.access import ANYBODY, Access
from vectable.server.gate import STATE, Passage, log
from vectable.server.limits import Limits, read_body
from vectable.server.problems import describe_invalid, internal_problem, named_field
from vectable.server.repeats import Fingerprint, Repeats, key_of
from vectable.server.roles import concerns_all, needed_role

if TYPE_CHECKING:
    from vectable.database import Database

Endpoint = Callable[..., Coroutine[Any, Any, Response]]
Handler = Callable[[Request], Coroutine[Any, Any, Response]]
AnEndpoint = TypeVar("AnEndpoint", bound=Endpoint)
AModel = TypeVar("AModel", bound=BaseModel)
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
        principal=passage.caller.principal,
        deadline=None if unbounded else passage.deadline,
        request_id=passage.request_id,
    )
    key = key_of(request) if writing else None
    if key is None:
        return context
    # Two callers that choose the same key mean different requests.
    own = key if passage.caller is ANYBODY else f"{context.principal}:{key}"
    return dataclasses.replace(context, idempotency_key=own)


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


def checked_body(model: type[AModel], value: Any) -> AModel:
    """A body that an operation read itself, as `model`. Raises InvalidInput."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = [{**e, "loc": ("body", *e["loc"])} for e in error.errors(include_url=False)]
        raise InvalidInput(describe_invalid(found), context=named_field(found)) from None


class Route(APIRoute):
    """An operation. A body it declares is JSON, read, parsed and checked here; an operation marked by
    `writes` acts once per Idempotency-Key.

    One that declares a body takes nothing else but text from the path, so the framework's general way of
    finding arguments, which costs more than a search of a small table, is not gone for it."""

    def __init__(self, path: str, endpoint: Endpoint, **described: Any) -> None:
        super().__init__(path, endpoint, **described)
        if self.body_field is not None:
            self.app = _application(self.get_route_handler())

    def get_route_handler(self) -> Handler:
        """The handler behind a check of who asks: it comes before anything of the request is read."""
        [method] = self.methods or {"GET"}
        needed, wide = needed_role(method, self.path), concerns_all(method, self.path)
        return _allowed(needed, wide, self._handler())

    def _handler(self) -> Handler:
        repeatable = is_write(self.endpoint)
        if self.endpoint in _READERS:
            return super().get_route_handler()
        if self.body_field is None:
            handle = super().get_route_handler()
            return _repeatable(handle) if repeatable else handle
        if self.dependant.query_params or self.dependant.header_params or len(self.dependant.body_params) > 1:
            raise TypeError(f"{self.endpoint.__name__}: with a body, other arguments come from the path")
        endpoint: Endpoint = self.endpoint
        return _with_body(endpoint, self.dependant.body_params[0], repeatable)


def _application(handle: Handler) -> ASGIApp:
    """The handler without what the framework keeps ready for arguments that need to be closed."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        response = await handle(Request(scope, receive, send))
        await response(scope, receive, send)

    return application


def _allowed(needed: Role, wide: bool, handle: Handler) -> Handler:
    async def check_then_handle(request: Request) -> Response:
        caller = passage_of(request).caller
        if caller is not ANYBODY:
            access: Access = request.app.state.access
            access.allow(caller, needed, request.path_params.get("table"), concerns_all=wide)
        return await handle(request)

    return check_then_handle


def check_table(request: Request, table: str) -> None:
    """Raises AccessDenied when the caller's key is not for the table of that name: for names that do not
    stand in the path."""
    caller = passage_of(request).caller
    if not caller.reaches(table):
        access: Access = request.app.state.access
        access.deny_table(caller, table)


def _repeatable(handle: Handler) -> Handler:
    async def handle_once(request: Request) -> Response:
        key = key_of(request)
        if key is None:
            return await handle(request)
        return await once(request, key, Fingerprint(request, b""), lambda: handle(request))

    return handle_once


def _with_body(endpoint: Endpoint, field: Any, repeatable: bool) -> Handler:
    required, name = field.field_info.is_required(), field.name

    async def read_then_handle(request: Request) -> Response:
        raw = await _read(request)
        arguments: dict[str, Any] = dict(request.path_params)
        if raw or required:
            value, errors = field.validate(parse_json(raw), {}, loc=("body",))
            if errors:
                raise InvalidInput(describe_invalid(errors), context=named_field(errors))
            arguments[name] = value
        key = key_of(request) if repeatable else None
        if key is None:
            return await endpoint(request=request, **arguments)
        work = partial(endpoint, request=request, **arguments)
        return await once(request, key, Fingerprint(request, raw), work)

    return read_then_handle


async def once(
    request: Request,
    key: str,
    fingerprint: Fingerprint,
    work: Callable[[], Coroutine[Any, Any, Response]],
) -> Response:
    """The answer of `work`, or the one the same request was given before."""
    repeats: Repeats = request.app.state.repeats
    return await repeats.once(passage_of(request).caller.principal, key, fingerprint, work)


async def _read(request: Request) -> bytes:
    """The body, of a type that is JSON."""
    check_encoding(request)
    media_type = media_type_of(request)
    if not is_json(media_type):
        raise unsupported_media_type(media_type, "application/json")
    return await read_body(request, limits_of(request).max_body)
