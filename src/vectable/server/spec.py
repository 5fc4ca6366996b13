"""How operations describe themselves: what they return, what they refuse, and examples of both."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Path, Query
from fastapi.params import Body as BodyParameter
from pydantic import BaseModel

from vectable.server import problems
from vectable.server.answers import VectorFormat
from vectable.server.refusals import OPENAI_PATHS, openai_error

PROBLEM_SCHEMA = {"$ref": "#/components/schemas/Problem"}
_REFUSALS: dict[int, tuple[str, str, str, str | None]] = {
    400: (
        "The request cannot be understood, or means nothing here.",
        "unknown-column",
        "table 'layouts' has no column 'titel'",
        "did you mean 'title'?",
    ),
    401: (
        "Nobody is named by the request, or the key is not known.",
        "unauthenticated",
        "a key is needed here",
        "send the header: Authorization: Bearer KEY",
    ),
    403: (
        "The key is not for this.",
        "access-denied",
        "this needs the role write, and the key 'dashboard' has read",
        "use a key made with: vectable keys create NAME --role write",
    ),
    429: (
        "Too often. See Retry-After.",
        "rate-limited",
        "too many requests from there were refused",
        "come back in 41 s, with a key that is valid for this",
    ),
    404: (
        "The named thing does not exist.",
        "table-not-found",
        "there is no table 'layout'",
        "did you mean 'layouts'?",
    ),
    409: (
        "The state of things forbids it now.",
        "already-exists",
        "a table 'layouts' exists already",
        "choose another name",
    ),
    413: ("Longer than the limit.", "too-large", "the body is longer than 67108864 bytes", None),
    415: (
        "A media type that is not read here.",
        "unsupported-media-type",
        "a body of type 'text/plain' is not read here, send application/json",
        None,
    ),
    422: ("Well-formed, but not offered here.", "unsupported", "this backend has no scalar indexes", None),
    503: (
        "Too busy, or without something it needs. See Retry-After.",
        "overloaded",
        "512 requests are being worked on",
        "come back in a second",
    ),
}


_NAMES = {
    400: "BadRequest",
    401: "Unauthenticated",
    403: "AccessDenied",
    429: "RateLimited",
    404: "NotFound",
    409: "Conflict",
    413: "TooLarge",
    415: "UnsupportedMediaType",
    422: "Unsupported",
    503: "Unavailable",
}


def _refusal(status: int) -> dict[str, Any]:
    description, code, detail, hint = _REFUSALS[status]
    example = problems.problem(status, code, detail, request_id="0b0f6f7c4e6c4bd0a1d8a3f0f2a6c1e4", hint=hint)
    content = {problems.MEDIA_TYPE: {"schema": PROBLEM_SCHEMA, "example": example}}
    return {"description": description, "content": content}


def problem_responses() -> dict[str, Any]:
    """The document's `components/responses`: one per status an operation may refuse with, and any other."""
    other = {
        "description": "Any other problem.",
        "content": {problems.MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}},
    }
    named = {name: _refusal(status) for status, name in _NAMES.items()}
    return named | {"OtherProblem": other, "OpenAIError": _openai_refusal()}


def _openai_refusal() -> dict[str, Any]:
    problem = problems.problem(
        404,
        "model-not-found",
        "there is no model 'all-MiniLM-L6' here",
        request_id="",
        hint="did you mean 'sentence-transformers/all-MiniLM-L6-v2'?",
        context={"field": "model"},
    )
    schema = {"$ref": "#/components/schemas/OpenAIError"}
    content = {"application/json": {"schema": schema, "example": openai_error(problem)}}
    return {"description": "Refused, told as OpenAI does.", "content": content}


def reference(name: str) -> dict[str, str]:
    """A reference to a response of `problem_responses`."""
    return {"$ref": f"#/components/responses/{name}"}


def refusal(status: int, path: str) -> dict[str, str]:
    """A reference to the answer of any operation at `path` that is refused with that status."""
    return reference("OpenAIError" if path.startswith(OPENAI_PATHS) else _NAMES[status])


def responses(
    model: type[BaseModel] | None,
    example: Any = None,
    *,
    status: int = 200,
    description: str = "Done.",
    refuses: tuple[int, ...] = (),
    body: bool = False,
    openai: bool = False,
) -> dict[int | str, dict[str, Any]]:
    """What an operation answers: `model` with `example` on success, problems for the statuses it refuses
    with. `body`: it reads one, so that may be too long or of the wrong type. `openai`: refusals are told in
    OpenAI's shape."""
    success: dict[str, Any] = {"description": description}
    if model is not None:
        success |= {"model": model, "content": {"application/json": {"example": example}}}
    statuses = sorted({400, 503, *refuses, *((413, 415) if body else ())})
    if openai:
        return {status: success, **{s: {"x-reference": "OpenAIError"} for s in (*statuses, "default")}}
    refused: dict[int | str, dict[str, Any]] = {s: {"x-reference": _NAMES[s]} for s in statuses}
    return {status: success, **refused, "default": {"x-reference": "OtherProblem"}}


def examples(**values: Any) -> BodyParameter:
    """A JSON body with examples by name."""
    named = {name: {"summary": name.replace("_", " "), "value": value} for name, value in values.items()}
    parameter: BodyParameter = Body(openapi_examples=named)  # type: ignore[arg-type]
    return parameter


EXAMPLE_JOB = "8d7c5a1e0f3b4c6d9e2a1b0c3d4e5f60"
EXAMPLE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
TableName = Annotated[str, Path(description='"table" or "namespace.table".', examples=["layouts"])]
ColumnName = Annotated[str, Path(description="A column's name.", examples=["teaches_embedding"])]
IndexName = Annotated[str, Path(description="An index's name.", examples=["teaches_embedding_hnsw"])]
JobId = Annotated[str, Path(description="A job's id.", examples=[EXAMPLE_JOB])]
Format = Annotated[
    VectorFormat,
    Query(
        description="How vectors are written in the answer: numbers, or base64 of float32.",
        examples=["base64"],
    ),
]
