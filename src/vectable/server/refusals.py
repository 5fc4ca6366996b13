"""Refusals in the shape the path's clients read: OpenAI's under /v1/, problem documents everywhere else."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

from vectable.server.problems import render

OPENAI_PATHS = "/v1/"
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def shaped(path: str, response: Response) -> Response:
    """`response`, a problem, as clients of `path` read it. Status and headers stay as they are."""
    if not path.startswith(OPENAI_PATHS):
        return response
    document = openai_error(orjson.loads(response.body))
    kept = ("www-authenticate", "retry-after", "allow")
    headers = {name: value for name, value in response.headers.items() if name in kept}
    return Response(render(document), response.status_code, headers, "application/json")


def openai_error(problem: dict[str, Any]) -> dict[str, Any]:
    """A problem as OpenAI tells it: `type` by status, `code` with underscores, `param` the field that is at
    fault; null where it is not the request."""
    status: int = problem["status"]
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    field = (problem.get("context") or {}).get("field") if status < 500 else None
    return {
        "error": {
            "message": problem["error"],
            "type": kind,
            "param": field,
            "code": problem["code"].replace("-", "_"),
        }
    }
