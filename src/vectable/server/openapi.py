"""The OpenAPI 3.1 document. `python -m vectable.server.openapi` prints it, without opening a database."""

from __future__ import annotations

import json
import sys
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from vectable.server.models.embed import EmbedImageRequest
from vectable.server.models.openai import OpenAIError
from vectable.server.models.rows import InsertRequest
from vectable.server.models.shapes import Problem
from vectable.server.routing import is_write
from vectable.server.spec import problem_responses, reference, refusal

_ABOUT = """Put rows in a table, declare an embedding column, search by meaning.

Times are milliseconds. Vectors come in as `number[]` or `{"base64": "…"}` (little-endian float32), and go
out as `encoding_format` asks. Errors are `application/problem+json`; every answer carries `X-Request-Id`."""
_TAGS = (
    ("search", "Rows by meaning and by filter."),
    ("rows", "Rows in and out."),
    ("tables", "What tables there are."),
    ("columns", "Columns the system fills and keeps true."),
    ("indexes", "Approximate and scalar indexes."),
    ("embeddings", "Texts to vectors."),
    ("service", "Texts and images to vectors, vectors compared."),
    ("openai", "Embeddings for OpenAI's clients."),
    ("jobs", "Long work, with progress."),
    ("health", "How the server is."),
)
_REFERENCE = "#/components/schemas/{model}"
_REQUEST_ID_IN = {
    "name": "X-Request-Id",
    "in": "header",
    "required": False,
    "description": "Comes back with the answer, and is what the server's log knows the request by: 1 to 128 "
    "letters, digits, dots, underscores and hyphens. Anything else is replaced by a new one.",
    "schema": {"type": "string"},
    "example": "checkout-7f3a",
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same request sent again with the same key acts once, and is given the same answer.",
    "schema": {
        "type": "string",
        "pattern": "^[!-~]{1,200}$",
        "description": "A new UUID for each thing to be done, for instance.",
    },
}
_KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "A key made by `vectable keys create`, with the role the operation needs.",
}
_REQUEST_ID_OUT = {
    "description": "The request's id: the client's, or a new one.",
    "schema": {"type": "string"},
}


def describe_application(app: FastAPI) -> None:
    """Makes `app.openapi()` give the whole document, computed once."""
    plain = app.openapi_version

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                openapi_version=plain,
                summary=app.summary,
                description=_ABOUT,
                routes=app.routes,
                tags=[{"name": name, "description": about} for name, about in _TAGS],
                license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
            )
            app.openapi_schema = _completed(app, document)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _completed(app: FastAPI, document: dict[str, Any]) -> dict[str, Any]:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas.update(_schemas(Problem, OpenAIError, InsertRequest, EmbedImageRequest))
    repeatable = {
        (getattr(route, "path_format", ""), method.lower())
        for route in app.routes
        for method in getattr(route, "methods", None) or ()
        if is_write(getattr(route, "endpoint", None))
    }
    names = {
        (route.path_format, method.lower()): route.name
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    components = document["components"]
    components["parameters"] = {"RequestId": _REQUEST_ID_IN, "IdempotencyKey": _IDEMPOTENCY_KEY}
    components["headers"] = {"RequestId": _REQUEST_ID_OUT}
    components["responses"] = problem_responses()
    components["securitySchemes"] = {"key": _KEY}
    # A server that was never given a key asks for none: hence the empty one.
    document["security"] = [{"key": []}, {}]
    for response in components["responses"].values():
        response["headers"] = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
    _restore_examples(app, document)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _describe_access(path, operation)
            parameters = operation.setdefault("parameters", [])
            parameters.append({"$ref": "#/components/parameters/RequestId"})
            if (path, method) in repeatable:
                parameters.append({"$ref": "#/components/parameters/IdempotencyKey"})
                # The key may have come with another request.
                operation["responses"].setdefault("409", reference("Conflict"))
            _complete_responses(operation["responses"])
            operation["operationId"] = names[path, method]
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    return document


def _describe_access(path: str, operation: dict[str, Any]) -> None:
    if path.startswith("/health"):
        operation["security"] = []
        return
    for status in (401, 403, 429):
        operation["responses"].setdefault(str(status), refusal(status, path))


def _restore_examples(app: FastAPI, document: dict[str, Any]) -> None:
    """The framework drops every null of the document, also where an example says one."""
    for route in app.routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        for method in route.methods or ():
            responses = document["paths"][route.path_format][method.lower()]["responses"]
            for status, given in route.responses.items():
                for media_type, media in given.get("content", {}).items():
                    if "example" in media:
                        responses[str(status)]["content"][media_type]["example"] = media["example"]


def _complete_responses(responses: dict[str, Any]) -> None:
    # The framework documents its own validation errors, which here are problems with status 400.
    validation = responses.get("422", {}).get("content", {})
    if "application/json" in validation:
        validation.pop("application/json")
        if not validation:
            responses.pop("422")
    for status, response in responses.items():
        # The framework insists on adding a description, which may not stand beside a reference.
        if "x-reference" in response:
            responses[status] = reference(response["x-reference"])
            continue
        response.setdefault("headers", {})["X-Request-Id"] = {"$ref": "#/components/headers/RequestId"}


def _schemas(*models: type[BaseModel]) -> dict[str, Any]:
    _, found = models_json_schema([(m, "validation") for m in models], ref_template=_REFERENCE)
    schemas: dict[str, Any] = found["$defs"]
    return schemas


def render_openapi() -> str:
    """The document as text, the same from one run to the next."""
    from vectable.config import Settings
    from vectable.server.app import build_app
    from vectable.server.limits import Limits

    document = build_app(Settings(), Limits()).openapi()
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render_openapi())
