"""From errors to answers: the one place that knows which class is which status.

`python -m vectable.server.problems` prints docs/errors.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from vectable import errors
from vectable.errors import VectableError

MEDIA_TYPE = "application/problem+json"
STATUS: dict[type[VectableError], int] = {
    VectableError: 500,
    errors.InvalidInput: 400,
    errors.AccessDenied: 403,
    errors.Unauthenticated: 401,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.Unsupported: 422,
    errors.RateLimited: 429,
    errors.Overloaded: 503,
    errors.ProviderError: 502,
    errors.ModelUnavailable: 503,
    errors.EndpointUnavailable: 503,
    errors.EndpointTimeout: 504,
    errors.SpendCapReached: 503,
    errors.BackendError: 502,
    errors.BackendBusy: 503,
    errors.BackendUnavailable: 503,
    errors.BackendTimeout: 504,
    errors.DatabaseNewer: 503,
    errors.DatabaseDamaged: 503,
    errors.DiskFull: 503,
    errors.ReadOnlyDatabase: 503,
}
"""Status by class; a class not named here has its parent's."""
HTTP_CODES = {
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media-type",
}
"""Codes of what only HTTP knows: a path, a method, a media type."""
INTERNAL = "internal"
_DEFAULT_RETRY_S = 1
_LONGEST = 1_000


def status_of(kind: type[VectableError]) -> int:
    """The status an error of that class is answered with."""
    return next(STATUS[c] for c in kind.__mro__ if c in STATUS)


def title_of(code: str) -> str:
    """The code in words: the same for every error of the class."""
    return code.replace("-", " ").capitalize()


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    request_id: str,
    hint: str | None = None,
    context: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The problem document (RFC 9457). `error` is the whole of it in one sentence."""
    # What was sent is named in many details, and may be of any length.
    detail, hint = _short(detail), None if hint is None else _short(hint)
    found: dict[str, Any] = {
        "type": f"urn:vectable:error:{code}",
        "title": title_of(code),
        "status": status,
        "detail": detail,
        "code": code,
        "hint": hint,
        "request_id": request_id,
        "error": f"{detail} ({hint})" if hint else detail,
    }
    if context:
        found["context"] = dict(context)
    return found


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


def problem_of(error: VectableError, request_id: str) -> dict[str, Any]:
    """The problem document of an error."""
    return problem(
        status_of(type(error)),
        error.code,
        error.detail,
        request_id=request_id,
        hint=error.hint,
        context=error.context,
    )


def render(document: Mapping[str, Any]) -> bytes:
    """The document as JSON. Whatever context cannot be JSON is shown as text, and text that is not UTF-8 is
    escaped: a problem must never fail to be told."""
    try:
        return orjson.dumps(
            document, default=str, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        )
    except TypeError:
        return orjson.dumps({k: _plain(v) for k, v in document.items()})


def _plain(value: Any) -> Any:
    if value is None or (isinstance(value, int) and abs(value) < 1 << 53):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def response_of(error: VectableError, request_id: str) -> Response:
    """The answer to a request that failed with `error`."""
    status = status_of(type(error))
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retryable and status in (429, 503):
        headers["Retry-After"] = str(error.context.get("retry_after_s", _DEFAULT_RETRY_S))
    return Response(render(problem_of(error, request_id)), status, headers, MEDIA_TYPE)


def http_code(status: int) -> str:
    """The code of a problem that only HTTP knows."""
    return HTTP_CODES.get(status) or HTTPStatus(status).phrase.lower().replace(" ", "-")


def http_response(
    status: int,
    detail: str,
    request_id: str,
    headers: Mapping[str, str] | None = None,
    hint: str | None = None,
) -> Response:
    """The answer to a request that failed for a reason only HTTP knows."""
    document = problem(status, http_code(status), detail, request_id=request_id, hint=hint)
    return Response(render(document), status, dict(headers or {}), MEDIA_TYPE)


def internal_problem(request_id: str) -> dict[str, Any]:
    """The document for a defect of ours. Says nothing about it: the log does."""
    return problem(
        500,
        INTERNAL,
        "something went wrong inside the server",
        request_id=request_id,
        hint="the server's log has the details under this request_id",
    )


def internal_response(request_id: str) -> Response:
    """The answer to a request that met a defect of ours."""
    return Response(render(internal_problem(request_id)), 500, None, MEDIA_TYPE)


def describe_invalid(found: Sequence[Mapping[str, Any]]) -> str:
    """One sentence about what a request's values lack, from pydantic's or the framework's list of errors:
    the field's path and what is expected there."""
    told = _by_form(found[:_COMPARED])
    sentences = [_sentence(e) for e in told[:3]]
    more = len(told) - len(sentences) + len(found[_COMPARED:])
    return "; ".join(dict.fromkeys(sentences)) + (f"; and {more} more" if more else "")


_WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this request",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "int_parsing_size": "must be an integer of at most 64 bits",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "recursion_loop": "is nested too deeply",
}
_LIMITS = {
    "too_short": "must have at least {min_length} items, not {actual_length}",
    "too_long": "must have at most {max_length} items, not {actual_length}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
}
_FORMS = {
    "string_type": "a string",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_CHOICES = ("literal_error", "enum", "union_tag_invalid")
_TAGS = frozenset(
    {"clause", "combination", "negation", "sql", "list", "str", "constrained-str", "tuple", "body"}
)
_COMPARED = 40
"""Errors compared with each other; there may be one for each of many thousand values."""
_NAMING = frozenset({"columns", "add_columns", "values", "parameters"})
"""Fields whose own fields are named by the client: what stands behind them is a name."""


def _by_form(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The errors of a value that may have several forms, as one: what its own form lacks, or else which forms
    there are. Pydantic reports each form apart."""
    places = [_parts(e) for e in found]
    told: list[Mapping[str, Any]] = []
    done: set[tuple[Any, ...]] = set()
    for error, place in zip(found, places, strict=True):
        inside = [(e, p) for e, p in zip(found, places, strict=True) if p[: len(place)] == place]
        forms = [_form(e) for e, p in inside if p == place]
        if len(inside) == 1 or not _form(error):
            told.append(error)
        elif all(forms) and len(forms) == len(inside) and place not in done:
            done.add(place)
            told.append({**error, "type": "form", "ctx": {"expected": " or ".join(dict.fromkeys(forms))}})
    return told


def _form(error: Mapping[str, Any]) -> str:
    """The form a value was taken for in vain; empty where the error is about something else."""
    context = error.get("ctx") or {}
    if error.get("type") in _CHOICES:
        return str(context.get("expected") or context.get("expected_tags"))
    return _FORMS.get(str(error.get("type")), "")


def _sentence(error: Mapping[str, Any]) -> str:
    where = _path(error)
    context = error.get("ctx") or {}
    kind = str(error.get("type", ""))
    if kind in _WORDS:
        return f"{where} {_WORDS[kind]}"
    if kind in ("too_short", "string_too_short") and context.get("min_length") == 1:
        return f"{where} may not be empty"
    if kind in _LIMITS:
        return f"{where} {_LIMITS[kind].format_map(context)}"
    if kind == "form" or kind in _CHOICES:
        return f"{where} must be {context.get('expected') or context.get('expected_tags')}"
    words = str(error.get("msg", "is not valid"))
    return f"{where}: {words[:1].lower()}{words[1:]}"


def _parts(error: Mapping[str, Any]) -> tuple[Any, ...]:
    """The path to what an error is about, without the labels pydantic puts in for the forms of a union."""
    location = error.get("loc", ())
    unknown = len(location) - 1 if error.get("type") == "extra_forbidden" else None
    parts: list[Any] = []
    dropped: Any = None
    for place, part in enumerate(location[1:], 1):
        named = (parts and parts[-1] in _NAMING) or part == dropped or place == unknown
        label = isinstance(part, str) and (part in _TAGS or "[" in part or part[:1].isupper())
        dropped = None
        if named or not label:
            parts.append(part)
        else:
            dropped = part
    return tuple(parts)


def _path(error: Mapping[str, Any]) -> str:
    parts = _parts(error)
    if not parts:
        return "the body" if tuple(error.get("loc", ()))[:1] == ("body",) else "the request"
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)[:80]
    return f"`{text[:200]}`"


def named_field(found: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """As context of an error: the request's field that the first of pydantic's errors is about, where it is
    about one."""
    parts = _parts(found[0]) if found else ()
    return {"field": str(parts[0])[:80]} if parts else {}


def every_error(kind: type[VectableError] = VectableError) -> Iterator[type[VectableError]]:
    """Every class of our tree, parents before children."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.startswith("vectable."):
            yield from every_error(child)


_HEAD = """# Errors

Every error has a `code`, a `detail` (one sentence), a `hint` (what to do, or what exists instead) and a
`context` (facts for programs). In Python they are the classes of `vectable.errors`; over HTTP they are
answered as `application/problem+json`:

```json
{example}
```

`retryable` says that the same call may succeed later, unchanged. Nothing that is merely wrong in a request is
answered with a status of 500 or more.

| code | status | class | retryable | meaning |
|---|---|---|---|---|
"""
_TAIL = """
Over HTTP there are also `method-not-allowed` (405), `unsupported-media-type` (415), and `internal` (500),
which is a defect of the server: its log has the details under the `request_id`.
"""


def error_table() -> str:
    """docs/errors.md."""
    error = errors.TableNotFound("there is no table 'layout'", hint="did you mean 'layouts'?")
    example = orjson.dumps(problem_of(error, "01K6"), option=orjson.OPT_INDENT_2).decode()
    rows = []
    for kind in every_error():
        own = kind.__dict__.get("__doc__")
        meaning = " ".join(own.split()) if own else f"{title_of(kind.code)}."
        retryable = "yes" if kind.retryable else "no"
        rows.append(f"| `{kind.code}` | {status_of(kind)} | `{kind.__name__}` | {retryable} | {meaning} |\n")
    return _HEAD.replace("{example}", example) + "".join(rows) + _TAIL


if __name__ == "__main__":
    sys.stdout.write(error_table())
