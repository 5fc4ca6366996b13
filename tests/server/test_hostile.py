"""Nothing a client sends gives a 5xx."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.server.live import Live, live_server
from tests.server.test_envelope import check_problem

TABLE = "/api/v1/tables/t"
EVIL = [
    "'; drop table t; --",
    '"; drop table t; --',
    "' or '1'='1",
    "`id`",
    "a\x00b",
    "\ufffe",
    "../../../etc/passwd",
    "..\\..\\windows",
    "/etc/passwd",
    "%2e%2e%2f",
    "%s%n%x",
    "{0.__class__}",
    "${jndi:ldap://x}",
    "<script>alert(1)</script>",
    "\u202eevil",
    "ﬀ",
    "İ",
    "é" * 5_000,
    "😀",
    " ",
    "",
    "a.b.c.d",
    "select",
    "sqlite_master",
    "__proto__",
    "null",
    "NaN",
    "-0",
    "1e400",
    "\r\nSet-Cookie: a=b",
]
NUMBERS = ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1" + "0" * 400, "9" * 30, "-" + "9" * 30]
OPERATIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/api/v1/tables", {"name": "x", "columns": {"a": "string"}}),
    ("PATCH", TABLE, {"add_columns": {"zz": {"type": "int", "default": 1}}}),
    ("POST", f"{TABLE}/rows", {"rows": [{"id": "h", "title": "x"}], "on_conflict": "replace"}),
    ("PATCH", f"{TABLE}/rows", {"where": {"column": "n", "operator": "=", "value": 1}, "values": {"n": 2}}),
    ("DELETE", f"{TABLE}/rows", {"where": {"column": "n", "operator": "=", "value": -1}}),
    (
        "POST",
        f"{TABLE}/query",
        {
            "select": ["title"],
            "where": {"op": "and", "args": [{"column": "title", "operator": "ilike", "value": "%x%"}]},
            "similar": {"column": "v", "to": [1, 2], "threshold": 0.1, "exact": True},
            "order_by": ["-score"],
            "limit": 5,
        },
    ),
    ("POST", f"{TABLE}/query/stream", {"where": {"sql": "n >= ?", "params": [1]}, "limit": 5}),
    ("POST", f"{TABLE}/query/count", {"where": [{"column": "meta.a[0]", "operator": "=", "value": 1}]}),
    ("POST", f"{TABLE}/query/explain", {"order_by": ["title"], "offset": 1, "limit": 1}),
    (
        "POST",
        f"{TABLE}/search/similarity",
        {"query": [1, 2], "column": "v", "limit": 3, "threshold": 0.1, "filters": [], "select": ["id"]},
    ),
    (
        "POST",
        f"{TABLE}/columns/computed/embedding",
        {"name": "zzz", "template": "{title}", "model": "hashing/8"},
    ),
    ("POST", f"{TABLE}/columns/computed/e/refresh", {"where": {"column": "n", "operator": "=", "value": 1}}),
    ("POST", f"{TABLE}/indexes/vector", {"column": "v", "method": "flat", "parameters": {}, "name": "ix"}),
    ("POST", f"{TABLE}/indexes/scalar", {"column": "n", "type": "btree"}),
    ("POST", "/api/v1/embeddings/generate", {"text": ["a"], "model": "hashing/8", "options": {}}),
    ("POST", "/api/v1/embeddings/cache/clear", {"persistent": False}),
    ("POST", "/api/v1/tables/attach", {"table": "theirs", "embed": "{name}", "schema": "public"}),
    ("POST", "/embed/text", {"texts": ["a"], "model": "hashing/8", "normalize": True}),
    ("POST", "/embed/image", {"images": [{"base64": "AAAA"}, "cats/tom.jpg"]}),
    ("POST", "/embed/batch", {"items": [{"text": "a"}, {"image": "x.png"}], "batchSize": 10}),
    ("POST", "/v1/embeddings", {"input": ["a"], "model": "hashing/8", "encoding_format": "float"}),
    ("POST", "/similarity", {"query": [1, 0], "candidates": [[1, 2]], "topK": 1, "metric": "cosine"}),
    ("POST", "/rerank", {"query": "a", "texts": ["b"], "return_text": True}),
    ("POST", "/cache/clear", {"persistent": False}),
]
each_operation = pytest.mark.parametrize(
    ("method", "path", "body"),
    OPERATIONS,
    ids=[f"{m} {p.removeprefix('/api/v1/')}" for m, p, _ in OPERATIONS],
)


def test_every_operation_that_reads_json_is_among_them() -> None:
    """Else a new one would be spared all that follows."""
    paths = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())["paths"]
    reading = {
        (method.upper(), path)
        for path, operations in paths.items()
        for method, operation in operations.items()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    patterns = {(m, p): re.sub(r"\\{\w+\\}", "[^/]+", re.escape(p)) for m, p in reading}
    spared = [
        o for o in reading if not any(m == o[0] and re.fullmatch(patterns[o], p) for m, p, _ in OPERATIONS)
    ]
    assert spared == []
    assert len(reading) >= 16


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(str(tmp_path_factory.mktemp("served")), fake_embeddings=True) as server:
        yield server


@pytest.fixture
def t(api: httpx.Client) -> httpx.Client:
    columns = {"title": "string", "n": "int", "meta": "json", "v": {"type": "vector", "dimensions": 2}}
    assert api.post("/api/v1/tables", json={"name": "t", "columns": columns}).status_code == 201
    made = {"name": "e", "source_column": "title", "model": "hashing/8"}
    assert api.post(f"{TABLE}/columns/computed/embedding", json=made).status_code == 201
    rows = [{"id": str(i), "title": f"row {i}", "n": i, "meta": {"a": [i]}, "v": [1, i]} for i in range(5)]
    assert api.post(f"{TABLE}/rows", json={"rows": rows}).status_code == 201
    return api


def send(api: httpx.Client, method: str, path: str, content: bytes) -> httpx.Response:
    answer = api.request(method, path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code < 500, (path, content[:300], answer.text)
    if answer.status_code >= 400:
        if path.startswith("/v1/"):
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        else:
            check_problem(answer, answer.status_code, answer.json()["code"])
        assert len(answer.content) < 20_000, "a refusal does not echo what it was sent"
    return answer


BROKEN = [
    b"",
    b" ",
    b"{",
    b'{"a":}',
    b"[1,]",
    b"'x'",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b'{"name": "\xff"}',
    b'{"name": "\xed\xa0\x80"}',
    b'{"name": "\\ud800"}',
    b'{"name": "a", "name": "b"}',
    b"[" * 100_000,
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    b'{"x": ' + b"1" * 10_000 + b"}",
    b"\x00",
    b'"' + b"x" * 1_000_000,
    b"{}{}",
    b"nul",
    b"# comment\n{}",
    *(b'{"x": ' + n.encode() + b"}" for n in NUMBERS),
]


@each_operation
def test_broken_bodies(t: httpx.Client, method: str, path: str, body: dict[str, Any]) -> None:
    for broken in BROKEN:
        if not (broken == b"" and (path.endswith(("/clear", "/refresh")))):
            assert send(t, method, path, broken).status_code == 400, broken[:80]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the values of a body are."""
    found = [path] if path else []
    if isinstance(value, dict):
        for name, child in value.items():
            found += leaves(child, (*path, name))
    elif isinstance(value, list):
        for i, child in enumerate(value):
            found += leaves(child, (*path, i))
    return found


def with_value(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(body))
    inner = copy
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return copy


def nested(depth: int) -> Any:
    value: Any = {"column": "n", "operator": "=", "value": 1}
    for _ in range(depth):
        value = {"op": "not", "arg": value}
    return value


STRANGE: list[Any] = [
    None,
    True,
    0,
    -1,
    2**63,
    -(2**63) - 1 + 1,
    2**64 - 1,
    1.5,
    1e308,
    "",
    "text",
    [],
    [[]],
    [None],
    {},
    {"base64": "AAAA"},
    {"sql": ""},
    {"sql": "1=1 union select * from sqlite_master"},
    {"op": "and"},
    {"op": "not", "arg": None},
    {"image": {"base64": "AAAA"}},
    {"": ""},
    [1] * 20_000,
    "x" * 100_000,
    {str(i): i for i in range(2_000)},
    nested(70),
    nested(95),
]


@each_operation
def test_values_of_every_kind_in_every_place(
    t: httpx.Client, method: str, path: str, body: dict[str, Any]
) -> None:
    for place in leaves(body):
        for value in STRANGE:
            send(t, method, path, json.dumps(with_value(body, place, value)).encode())
            if t.get(TABLE).status_code == 404:
                pytest.fail(f"the table went away by {place} = {value}")


@each_operation
def test_evil_text_in_every_place(t: httpx.Client, method: str, path: str, body: dict[str, Any]) -> None:
    for place in leaves(body):
        for text in EVIL:
            send(t, method, path, json.dumps(with_value(body, place, text)).encode())
    rows = t.post(f"{TABLE}/query", json={"select": ["id"]}).json()["rows"]
    assert {"0", "1", "2", "3", "4"} <= {r["id"] for r in rows}


@each_operation
def test_numbers_that_are_none(t: httpx.Client, method: str, path: str, body: dict[str, Any]) -> None:
    for place in leaves(body):
        for number in NUMBERS:
            text = json.dumps(with_value(body, place, "@@")).replace('"@@"', number)
            assert send(t, method, path, text.encode()).status_code == 400, text


STREAMS = [
    "application/x-ndjson",
    "text/csv",
    "application/vnd.apache.parquet",
    "application/vnd.apache.arrow.stream",
]


@pytest.mark.parametrize("kind", STREAMS)
def test_broken_streams(t: httpx.Client, kind: str) -> None:
    lines = [f'{{"id": "h", "n": {n}}}\n'.encode() for n in NUMBERS]
    cells = [f"id,n\nh,{n}\n".encode() for n in NUMBERS]
    for broken in (
        *BROKEN,
        *lines,
        *cells,
        b"PAR1" * 9,
        b"ARROW1\0\0",
        b"\xff\xff\xff\xff" * 20,
        b"id,id\na,b\n",
    ):
        for given in (broken, gzip.compress(broken)):
            answer = t.post(f"{TABLE}/rows", content=given, headers={"Content-Type": kind})
            assert answer.status_code < 500, (given[:80], answer.text)
            assert len(answer.content) < 20_000
    assert t.post(f"{TABLE}/query/count", json={"where": {"sql": "id = 'h'"}}).json() == {"count": 0}


def test_bodies_where_none_is_read(t: httpx.Client) -> None:
    for broken in (b"{", b"[" * 100_000, b'{"x": NaN}', b"\xff", b'"\\ud800"'):
        for method, path, status in (
            ("GET", TABLE, 200),
            ("GET", f"{TABLE}/rows/0", 200),
            ("GET", "/api/v1/jobs", 200),
            ("GET", "/health", 200),
            ("POST", "/api/v1/jobs/none/cancel", 404),
            ("POST", "/api/v1/embeddings/models/hashing/8/preload", 200),
            ("DELETE", f"{TABLE}/indexes/none", 404),
        ):
            headers = {"Content-Type": "application/json"}
            answer = t.request(method, path, content=broken, headers=headers)
            assert answer.status_code in (status, 400), (method, path, answer.text)


def test_evil_names_in_paths(t: httpx.Client) -> None:
    for text in EVIL:
        name = quote(text, safe="").replace(".", "%2E")
        for method, path in (
            ("GET", f"/api/v1/tables/{name}"),
            ("DELETE", f"/api/v1/tables/{name}x9"),
            ("GET", f"/api/v1/tables/{name}/indexes"),
            ("GET", f"{TABLE}/rows/{name}"),
            ("DELETE", f"{TABLE}/columns/computed/{name}"),
            ("POST", f"{TABLE}/columns/computed/{name}/refresh"),
            ("DELETE", f"{TABLE}/indexes/{name}"),
            ("GET", f"/api/v1/jobs/{name}"),
            ("GET", f"/api/v1/jobs/{name}/events"),
            ("POST", f"/api/v1/jobs/{name}/cancel"),
            ("POST", f"/api/v1/embeddings/models/{name}/preload"),
            ("GET", f"/api/v1/tables?cursor={name}"),
            ("GET", f"/api/v1/tables?limit={name}"),
            ("GET", f"/api/v1/tables?namespace={name}"),
            ("GET", f"{TABLE}/rows/0?select={name}"),
            ("POST", f"{TABLE}/rows?on_conflict={name}"),
            ("POST", f"/api/v1/tables/{name}/query"),
        ):
            answer = t.request(method, path)
            assert answer.status_code < 500, (method, path, answer.text)
            assert "set-cookie" not in answer.headers
    assert t.get(TABLE).status_code == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /api/v1/tables/%ff%fe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /api/v1/tables/t/rows/%FF HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /api/v1/tables/t/rows/%zz%0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /api/v1/tables/t/rows/%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET //evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /api/v1/tables?limit=%ff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /api/v1/tables?"
        + b"a=1&" * 5_000
        + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"POST /api/v1/tables HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\nConnection: close\r\n\r\n",
        b"POST /api/v1/tables HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n",
        (
            b"POST /api/v1/tables HTTP/1.1\r\nHost: localhost\r\nContent-Type: \xff\r\n"
            b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"
        ),
        b"BREW /api/v1/tables HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\xff\r\nConnection: close\r\n\r\n",
        (
            b"POST /api/v1/tables HTTP/1.1\r\nHost: localhost\r\nOrigin: \xff\r\nContent-Length: 2\r\n"
            b"Connection: close\r\n\r\n{}"
        ),
        b"nonsense\r\n\r\n",
    ],
)
def test_raw_requests(live: Live, t: httpx.Client, raw: bytes) -> None:
    answer = live.raw(raw)
    status = int(answer.split(b" ")[1]) if answer else 400
    assert 200 <= status < 500, answer
    assert t.get("/health").status_code == 200
