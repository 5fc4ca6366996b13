"""The OpenAPI document: fresh, complete, true."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from vectable.server.openapi import render_openapi

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = json.loads(render_openapi())
JSON = "application/json"
PROBLEM = "application/problem+json"
OPERATIONS = [(path, method, op) for path, ops in DOCUMENT["paths"].items() for method, op in ops.items()]
each = pytest.mark.parametrize(
    ("path", "method", "operation"), OPERATIONS, ids=[f"{m} {p}" for p, m, _ in OPERATIONS]
)

CONTRACT = """
post /api/v1/embeddings/generate
get /api/v1/embeddings/models
post /api/v1/embeddings/models/{id}/preload
post /api/v1/embeddings/cache/clear
post /api/v1/embeddings/models/{id}/unload
post /api/v1/tables
get /api/v1/tables
get /api/v1/tables/{table}
patch /api/v1/tables/{table}
delete /api/v1/tables/{table}
post /api/v1/tables/{table}/rows
get /api/v1/tables/{table}/rows
get /api/v1/tables/{table}/rows/{id}
patch /api/v1/tables/{table}/rows
delete /api/v1/tables/{table}/rows
post /api/v1/tables/{table}/query
post /api/v1/tables/{table}/query/stream
post /api/v1/tables/{table}/query/count
post /api/v1/tables/{table}/query/explain
post /api/v1/tables/{table}/search/similarity
post /api/v1/tables/{table}/columns/computed/embedding
get /api/v1/tables/{table}/columns/computed
delete /api/v1/tables/{table}/columns/computed/{name}
post /api/v1/tables/{table}/columns/computed/{name}/refresh
post /api/v1/tables/{table}/indexes/vector
post /api/v1/tables/{table}/indexes/scalar
get /api/v1/tables/{table}/indexes
delete /api/v1/tables/{table}/indexes/{name}
post /api/v1/tables/attach
post /api/v1/tables/{table}/detach
get /api/v1/jobs
get /api/v1/jobs/{id}
get /api/v1/jobs/{id}/events
post /api/v1/jobs/{id}/cancel
get /health
post /embed/text
post /embed/image
post /embed/batch
post /similarity
post /rerank
get /cache/stats
post /cache/clear
post /v1/embeddings
get /v1/models
get /v1/models/{id}
get /health/live
get /health/ready
get /metrics
get /stats
"""


def resolved(value: Any) -> Any:
    while isinstance(value, dict) and "$ref" in value:
        target: Any = DOCUMENT
        for part in value["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        value = target
    return value


def check(example: Any, schema: dict[str, Any]) -> None:
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema_rs.Draft202012Validator(whole).validate(example)


def media_examples(media: dict[str, Any]) -> Iterator[Any]:
    if "example" in media:
        yield media["example"]
    for named in media.get("examples", {}).values():
        yield named["value"]


def test_the_file_is_fresh() -> None:
    written = (ROOT / "docs" / "openapi.json").read_text(encoding="utf-8")
    assert json.loads(written) == DOCUMENT, "run: make openapi"
    assert written == render_openapi()


def test_printing_it_opens_no_database(tmp_path: Path) -> None:
    code = (
        "import runpy, sys; runpy.run_module('vectable.server.openapi', run_name='__main__');"
        "heavy = {'faiss', 'onnxruntime', 'pyarrow', 'sqlite3'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == DOCUMENT
    assert list(tmp_path.iterdir()) == []


def test_it_is_openapi_3_1_and_whole() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    assert {f"{method} {path}" for path, method, _ in OPERATIONS} == set(CONTRACT.split("\n")) - {""}
    identifiers = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(identifiers)) == len(identifiers)
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    assert {operation["tags"][0] for _, _, operation in OPERATIONS} == tags
    assert "HTTPValidationError" not in DOCUMENT["components"]["schemas"]


def test_every_reference_leads_somewhere() -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                assert isinstance(resolved(value), dict)
            for child in value.values():
                walk(child)
        elif isinstance(value, list):
            for child in value:
                walk(child)

    walk(DOCUMENT)
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


@each
def test_operations_are_described(path: str, method: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"]
    for parameter in map(resolved, operation["parameters"]):
        assert parameter["description"], parameter
        for example in parameter["schema"].get("examples", ()):
            check(example, parameter["schema"])
        # One key for every request would say that they are all the same.
        if parameter["name"] != "Idempotency-Key":
            assert "example" in parameter or parameter["schema"]["examples"], parameter
    names = {resolved(p)["name"] for p in operation["parameters"]}
    assert "X-Request-Id" in names
    reads = ("/query", "/search", "/generate", "/embed/", "/similarity", "/rerank")
    writes = method == "post" and path != "/v1/embeddings" and not any(part in path for part in reads)
    assert ("Idempotency-Key" in names) == writes
    assert not writes or "409" in operation["responses"]


@each
def test_bodies_have_examples_that_fit(path: str, method: str, operation: dict[str, Any]) -> None:
    body = operation.get("requestBody")
    if body is None:
        assert method != "patch"
        return
    for media_type, media in body["content"].items():
        examples = list(media_examples(media))
        assert examples, media_type
        if media_type == JSON:
            for example in examples:
                check(example, media["schema"])


@each
def test_answers_have_examples_that_fit(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = {status: resolved(r) for status, r in operation["responses"].items()}
    assert "400" in responses
    assert "default" in responses
    if "{" in path:
        assert "404" in responses
    if "requestBody" in operation:
        assert {"413", "415"} <= set(responses)
    for status, response in responses.items():
        assert "X-Request-Id" in response["headers"]
        content = response.get("content", {})
        if status in ("200", "201", "202"):
            assert content
            for media in content.values():
                assert list(media_examples(media))
        elif status != "204":
            media_type, schema = (JSON, "OpenAIError") if path.startswith("/v1/") else (PROBLEM, "Problem")
            assert set(content) == {media_type}
            assert content[media_type]["schema"] == {"$ref": f"#/components/schemas/{schema}"}
        for media_type, media in content.items():
            assert status == "default" or list(media_examples(media)), status
            if media_type in (JSON, PROBLEM):
                for example in media_examples(media):
                    check(example, media["schema"])


def test_filters_are_a_union_of_every_shape() -> None:
    schema = {"$ref": "#/components/schemas/Filter"}
    clause = {"column": "n", "operator": ">=", "value": 1}
    for good in (
        clause,
        {"column": "n", "operator": "is null"},
        [clause, clause],
        {"op": "or", "args": [clause, {"op": "not", "arg": [clause]}]},
        {"sql": "n >= ?", "params": [1]},
    ):
        check(good, schema)
    for bad in ({"column": "n", "operator": "~", "value": 1}, {"op": "xor", "args": []}, "n = 1", 7, {}):
        with pytest.raises(jsonschema_rs.ValidationError):
            check(bad, schema)
