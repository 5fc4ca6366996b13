"""How the server is, and a page that says what it can do."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from vectable.server.answers import answer
from vectable.server.models.rows import Health
from vectable.server.routing import Route, database_of
from vectable.server.spec import EXAMPLE_MODEL, responses

router = APIRouter(route_class=Route)


@router.get(
    "/health",
    tags=["health"],
    summary="Tell how the server is",
    responses=responses(
        Health,
        {
            "status": "healthy",
            "uptime": 3600.5,
            "models": {"text": EXAMPLE_MODEL, "image": None},
            "cache": {"size": 812, "maxSize": 10000, "hitRate": 0.93},
        },
    ),
)
async def health(request: Request) -> Response:
    """Whether it works, since how many seconds, with which models, and how its cache does."""
    database = database_of(request)
    cache = database.embedder.cache_stats()
    asked = cache["hits"] + cache["misses"]
    found = {
        "status": "healthy",
        "uptime": round(time.monotonic() - request.app.state.started, 3),
        "models": {"text": database.settings.text_model, "image": database.embedder.models.image()},
        "cache": {
            "size": cache["size"],
            "maxSize": cache["max_size"],
            "hitRate": cache["hits"] / asked if asked else 0.0,
        },
    }
    return answer(found)


_CODE = re.compile(r"`([^`]+)`")
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Vectable</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin: 2rem 0 .5rem; text-transform: capitalize; }
dt { font-family: ui-monospace, monospace; margin-top: .75rem; }
dt b { display: inline-block; min-width: 4.5rem; }
dd { margin: 0 0 0 4.5rem; }
details { margin-top: .25rem; }
summary { cursor: pointer; }
pre { background: color-mix(in srgb, currentColor 8%, transparent); padding: .5rem .75rem; overflow: auto; }
:root { color-scheme: light dark; }
</style>
</head>
<body>
<h1>Vectable</h1>
<p>Tables that embed themselves, version {version}. The whole description, for programs:
<a href="/openapi.json">/openapi.json</a> (OpenAPI 3.1).</p>
{groups}
</body>
</html>
"""


def operations_page(document: dict[str, Any]) -> str:
    """The operations of an OpenAPI document as a page without scripts, fonts or anything from elsewhere."""
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["other"])[0]
            groups.setdefault(tag, []).append(_entry(method, path, operation))
    parts = [f"<h2>{escape(tag)}</h2>\n<dl>\n{''.join(entries)}</dl>\n" for tag, entries in groups.items()]
    return _PAGE.replace("{version}", escape(document["info"]["version"])).replace("{groups}", "".join(parts))


def _entry(method: str, path: str, operation: dict[str, Any]) -> str:
    about = _CODE.sub(
        r"<code>\1</code>", escape(operation.get("description") or operation.get("summary", ""))
    )
    examples = "".join(
        f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>\n"
        for title, text in _examples(operation)
    )
    return f"<dt><b>{method.upper()}</b>{escape(path)}</dt>\n<dd>{about}\n{examples}</dd>\n"


def _examples(operation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What can be sent, then what comes back: (title, text)."""
    for media_type, media in operation.get("requestBody", {}).get("content", {}).items():
        given = dict(media.get("examples", {}))
        if "example" in media:
            given[media_type] = {"summary": media_type, "value": media["example"]}
        for name, example in given.items():
            yield f"send: {example.get('summary', name)}", _written(example["value"])
    for status, response in operation["responses"].items():
        for media in response.get("content", {}).values():
            if "example" in media:
                yield f"answer: {status}", _written(media["example"])


def _written(example: Any) -> str:
    return example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)


@router.get("/docs", include_in_schema=False)
@router.get("/", include_in_schema=False)
async def front_page(request: Request) -> Response:
    """What the server can do, for people."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
    return HTMLResponse(operations_page(request.app.openapi()), headers={"Content-Security-Policy": policy})
