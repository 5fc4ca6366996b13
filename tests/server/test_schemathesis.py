"""The server against its own description: generated requests, right and wrong, and their answers."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case, SerializationContext
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server.live import Live, live_server
from vectable.server.openapi import render_openapi

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
NAMES = {"table": "t", "name": "e"}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(str(tmp_path_factory.mktemp("served")), fake_embeddings=True) as server:
        yield server


@pytest.fixture(autouse=True)
def _there(live: Live) -> None:
    """For an operation that leaves the table where it is, once is enough."""
    _prepare(live)


def _prepare(live: Live) -> None:
    """The table that half of the requests are about, if an earlier request took it away."""
    api = live.client
    if api.get("/api/v1/tables/t/columns/computed").json().get("columns"):
        return
    columns = {"title": "string", "n": "int", "meta": "json", "v": {"type": "vector", "dimensions": 2}}
    api.post("/api/v1/tables", json={"name": "t", "columns": columns})
    made = {"name": "e", "source_column": "title", "model": "hashing/8"}
    api.post("/api/v1/tables/t/columns/computed/embedding", json=made)
    rows = [{"id": str(i), "title": f"row {i}", "n": i, "meta": {"a": i}, "v": [1, i]} for i in range(20)]
    api.post("/api/v1/tables/t/rows", json={"rows": rows})


def _about_what_exists(case: Case) -> None:
    """Half of the requests name the table, its columns and vectors of their dimensions, so that they get
    beyond the first check."""
    for name, value in NAMES.items():
        if name in case.path_parameters:
            case.path_parameters[name] = value
    body = case.body
    if not isinstance(body, dict):
        return
    if isinstance(body.get("column"), str):
        body["column"] = "v"
    if isinstance(body.get("query"), list):
        body["query"] = [1.0, 2.0]
    for name in ("filters", "where"):
        if isinstance(body.get(name), dict) and "column" in body[name]:
            body[name]["column"] = "n"
    if isinstance(body.get("similar"), dict):
        body["similar"].update(column="v", to=[1.0, 2.0])


@schemathesis.serializer(
    "application/x-ndjson",
    "text/csv",
    "application/vnd.apache.parquet",
    "application/vnd.apache.arrow.stream",
)
def _as_it_is(_: SerializationContext, value: Any) -> Any:
    """Streams of rows are sent as they were generated."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


schema = schemathesis.openapi.from_dict(json.loads(render_openapi()))


@schema.parametrize()
@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(case: Case, live: Live) -> None:
    if case.method in ("PATCH", "DELETE") or case.path.endswith("/detach"):
        _prepare(live)
    if zlib.crc32(repr(case.body).encode("utf-8", "surrogatepass")) % 2:
        _about_what_exists(case)
    case.call_and_validate(base_url=live.url, checks=CHECKS, timeout=60)
