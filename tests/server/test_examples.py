"""The examples of the OpenAPI document, sent as they stand: each of them is answered as described."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.server.live import Live, live_server
from tests.server.test_openapi import DOCUMENT, JSON, OPERATIONS, check, resolved

FORM = "multipart/form-data"
FILES = {"application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"}
NEEDS_POSTGRESQL = {"/api/v1/tables/attach", "/api/v1/tables/{table}/detach"}
REQUESTS: list[tuple[str, str, str | None, Any]] = []
"""Method, path, media type and body of every example."""
for _path, _method, _operation in OPERATIONS:
    _bodies = _operation.get("requestBody", {}).get("content", {})
    REQUESTS += [] if _bodies else [(_method, _path, None, None)]
    for _type, _media in _bodies.items():
        _named = _media.get("examples") or {"": {"value": _media["example"]}}
        REQUESTS += [(_method, _path, _type, each["value"]) for each in _named.values()]


def png() -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(encoded, "PNG")
    return encoded.getvalue()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    media = tmp_path_factory.mktemp("media")
    (media / "cats").mkdir()
    Image.new("RGB", (8, 6)).save(media / "cats" / "tom.jpg")
    database = str(tmp_path_factory.mktemp("served"))
    with live_server(database, fake_embeddings=True, synchronous="normal", media_root=str(media)) as server:
        yield server


def _set_up(api: httpx.Client, path: str, body: Any) -> str:
    """What the example takes for granted; the id of a job."""
    if "/tables" not in path and "/jobs" not in path:
        return ""
    for table in api.get("/api/v1/tables").json()["tables"]:
        api.delete(f"/api/v1/tables/{table['namespace']}.{table['name']}")
    if path == "/api/v1/tables" and body:
        return ""
    create, embedding, index = (
        DOCUMENT["paths"][at]["post"]["requestBody"]["content"][JSON]["examples"]
        for at in (
            "/api/v1/tables",
            "/api/v1/tables/{table}/columns/computed/embedding",
            "/api/v1/tables/{table}/indexes/vector",
        )
    )
    layouts = "/api/v1/tables/layouts"
    assert api.post("/api/v1/tables", json=create["usual"]["value"]).status_code == 201
    rows = [{"id": f"r{i}", "title": "x", "teaches": f"wait {i}", "colour": [1, i, 0]} for i in range(100)]
    rows += [] if path.endswith("/rows") and body else [{"id": "a", "title": "Debounce", "teaches": "wait"}]
    assert api.post(f"{layouts}/rows", json={"rows": rows}).status_code == 201
    if not path.endswith("computed/embedding"):
        made = api.post(f"{layouts}/columns/computed/embedding", json=embedding["of_one_column"]["value"])
        assert made.status_code == 201
    if "indexes/{name}" in path or "/jobs/" in path:
        assert api.post(f"{layouts}/indexes/vector", json=index["hnsw"]["value"]).status_code == 201
        return str(api.get("/api/v1/jobs").json()["jobs"][0]["id"])
    return ""


def _send(api: httpx.Client, method: str, url: str, media_type: str | None, body: Any, **more: Any) -> Any:
    headers = {"X-Request-Id": "checkout-7f3a"}
    if media_type == FORM:
        files = [("images", ("tom.png", png())) for _ in body["images"]]
        fields = {name: value for name, value in body.items() if name != "images"}
        return api.post(url, files=files, data=fields, headers=headers)
    if media_type in (None, JSON):
        return api.request(method, url, json=body, headers=headers, **more)
    return api.request(method, url, content=body, headers={"Content-Type": media_type, **headers}, **more)


@pytest.mark.parametrize(
    ("method", "path", "media_type", "body"),
    [request for request in REQUESTS if request[2] not in FILES],  # which tests/server/test_streams.py sends
    ids=[f"{m} {p} {t or ''} {i}" for i, (m, p, t, _) in enumerate(REQUESTS) if t not in FILES],
)
def test_an_example_is_answered_as_described(
    live: Live, method: str, path: str, media_type: str | None, body: Any
) -> None:
    operation = DOCUMENT["paths"][path][method]
    job = _set_up(live.client, path, body)
    url, query = path, {}
    for parameter in map(resolved, operation["parameters"]):
        example = parameter["schema"].get("examples", [None])[0]
        if parameter["in"] == "path":
            url = url.replace(f"{{{parameter['name']}}}", job if "/jobs/" in path else example)
        elif parameter["in"] == "query" and not (media_type == JSON and parameter["name"] == "on_conflict"):
            query[parameter["name"]] = example  # a body of JSON says itself what to do about conflicts
    answer = _send(live.client, method, url, media_type, body, params=query)
    described = resolved(operation["responses"][str(answer.status_code)])
    assert answer.headers["X-Request-Id"] == "checkout-7f3a"
    if path in NEEDS_POSTGRESQL:
        assert answer.status_code in (400, 422), answer.text
    elif "input" in (body or {}) and isinstance(body["input"][0], list):
        assert answer.status_code == 422, "hashes have no tokens"
    else:
        assert answer.is_success, answer.text
    content = described.get("content", {})
    if answer.content and JSON in content:
        check(answer.json(), content[JSON]["schema"])
