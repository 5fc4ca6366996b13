"""What holds for every answer: request ids, problems, headers, names, limits."""

import html
import json
import re
import socket

import httpx
import pytest

from tests.server.live import Live, live_server
from tests.waiting import LIMIT_S, until
from vectable.server.limits import Limits

FIELDS = {"type", "title", "status", "detail", "code", "hint", "request_id", "error"}


def check_problem(response: httpx.Response, status: int, code: str) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) - {"context"} == FIELDS
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return problem


def test_request_ids_are_the_clients_if_sane(api: httpx.Client) -> None:
    for sane in ("abc", "A.b_c-9", "x" * 128):
        assert api.get("/health", headers={"X-Request-Id": sane}).headers["x-request-id"] == sane
    for other in ("", "a b", "x" * 129, "a/b", "ü".encode()):
        answer = api.get("/health", headers={"X-Request-Id": other})
        assert answer.headers["x-request-id"] != other
        assert len(answer.headers["x-request-id"]) == 32
    assert api.get("/health").headers["x-request-id"] != api.get("/health").headers["x-request-id"]


def test_every_kind_of_answer_has_a_request_id(api: httpx.Client) -> None:
    api.post("/api/v1/tables", json={"name": "t", "columns": {}})
    asked = {"X-Request-Id": "mine"}
    answers = [
        api.get("/nowhere", headers=asked),
        api.put("/health", headers=asked),
        api.post("/api/v1/tables", content=b"{", headers=asked),
        api.post("/api/v1/tables", content=b"x", headers={**asked, "Content-Type": "text/plain"}),
        api.post("/api/v1/tables/t/query/stream", json={}, headers=asked),
        api.get("/openapi.json", headers=asked),
        api.get("/", headers=asked),
        api.delete("/api/v1/tables/t", headers=asked),
    ]
    assert [a.status_code for a in answers] == [404, 405, 400, 415, 200, 200, 200, 204]
    for answer in answers:
        assert answer.headers.get_list("x-request-id") == ["mine"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


def test_problems_of_http_itself(api: httpx.Client) -> None:
    check_problem(api.get("/api/v1/nothing"), 404, "not-found")
    refused = api.put("/api/v1/tables")
    assert "GET" in refused.headers["allow"]
    check_problem(refused, 405, "method-not-allowed")
    body = {"name": "t", "columns": {}}
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "application/xml", "nonsense"):
        answer = api.post("/api/v1/tables", content=b"{}", headers={"Content-Type": media_type})
        assert "application/json" in check_problem(answer, 415, "unsupported-media-type")["detail"]
    for media_type in ("application/json; charset=utf-8", "application/vnd.x+json", "APPLICATION/JSON"):
        headers = {"Content-Type": media_type}
        answer = api.post("/api/v1/tables", json=body, headers=headers)
        assert answer.status_code in (201, 409), answer.text
    compressed = api.post("/api/v1/tables", content=b"x", headers={"Content-Encoding": "gzip"})
    check_problem(compressed, 422, "unsupported")


def test_head_tells_what_get_would_without_its_body(api: httpx.Client) -> None:
    api.post("/api/v1/tables", json={"name": "t", "columns": {}})
    api.post("/api/v1/tables/t/rows", json={"rows": [{"id": "a"}]})
    for path in (
        "/api/v1/tables",
        "/api/v1/tables/t/rows/a",
        "/api/v1/tables/t/rows/b",
        "/",
        "/openapi.json",
    ):
        got, head = api.get(path), api.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        for name in ("content-type", "content-length", "content-security-policy"):
            assert head.headers[name] == got.headers[name]
    assert api.head("/health", headers={"X-Request-Id": "mine"}).headers["x-request-id"] == "mine"
    refused = api.head("/api/v1/tables/t/query")
    assert (refused.status_code, refused.headers["allow"], refused.content) == (405, "POST", b"")
    assert api.put("/api/v1/tables").headers["allow"] == "GET, HEAD, POST"


def test_head_of_a_stream_does_not_wait_for_its_end(live: Live, api: httpx.Client) -> None:
    api.post("/api/v1/tables", json={"name": "t", "columns": {"title": "string"}})
    api.post("/api/v1/tables/t/rows", json={"rows": [{"title": str(i)} for i in range(200)]})
    held = live.on_loop(live.database.leases.acquire("job/waits"))
    record = {"id": "waits", "kind": "embed", "table": "t", "status": "running", "created_at": "2026-01-01"}
    stored = json.dumps({"job": record}).encode()
    live.on_loop(live.database.state.commit(puts={"job/waits": stored}))
    try:
        head = api.head("/api/v1/jobs/waits/events")
        assert head.headers["content-type"].startswith("text/event-stream")
        assert api.head("/health").status_code == 200, "the connection serves on"
    finally:
        live.on_loop(live.database.leases.release(held))
        live.on_loop(live.database.state.commit(deletes=["job/waits"]))


def test_names_that_point_here_are_not_answered_to(api: httpx.Client) -> None:
    for good in ("localhost", "127.0.0.1:3000", "LOCALHOST:1", "[::1]:80"):
        assert api.get("/health", headers={"Host": good}).status_code == 200
    for bad in ("evil.example", "evil.example:3000", "127.0.0.1.evil.example", "[::2]", "localhost.evil"):
        problem = check_problem(api.get("/health", headers={"Host": bad}), 400, "invalid-input")
        assert "VECTABLE_ALLOWED_HOSTS" in problem["hint"]


def test_pages_of_other_origins_may_not_write(live: Live, api: httpx.Client) -> None:
    body = {"name": "made", "columns": {}}
    for origin in ("https://evil.example", "null", "http://localhost:1"):
        answer = api.post("/api/v1/tables", json=body, headers={"Origin": origin})
        check_problem(answer, 403, "access-denied")
        assert api.get("/api/v1/tables", headers={"Origin": origin}).status_code == 200
    assert api.post("/api/v1/tables", json=body, headers={"Origin": live.url}).status_code == 201


def test_pages_for_people(api: httpx.Client) -> None:
    for path in ("/", "/docs"):
        page = api.get(path)
        assert page.headers["content-type"].startswith("text/html")
        assert "/api/v1/tables/{table}/search/similarity" in page.text
        assert "<script" not in page.text
        assert "http" not in page.text.replace("http-equiv", "")
        assert page.text.count("<summary>send: ") >= 20
        assert html.escape(json.dumps({"text": "how to debounce a search box"}, indent=2)) in page.text
        assert "`" not in re.sub(r"<pre>.*?</pre>", "", page.text, flags=re.DOTALL)
        for tag in ("dl", "dt", "dd", "details", "summary", "pre", "code"):
            assert page.text.count(f"<{tag}>") == page.text.count(f"</{tag}>"), tag


def test_health_exactly(api: httpx.Client) -> None:
    found = api.get("/health").json()
    assert set(found) == {"status", "uptime", "models", "cache"}
    assert found["status"] == "healthy"
    assert 0 <= found["uptime"] < 3600
    # Hashes stand in for the image model, too: it can be had.
    image = "openai/clip-vit-base-patch32"
    assert found["models"] == {"text": "sentence-transformers/all-MiniLM-L6-v2", "image": image}
    assert set(found["cache"]) == {"size", "maxSize", "hitRate"}
    assert found["cache"]["maxSize"] == 10_000
    assert 0 <= found["cache"]["hitRate"] <= 1


def test_limits_are_kept() -> None:
    limits = Limits(max_body=1_000, max_in_flight=2, allowed_hosts=frozenset({"tables.example"}))
    with live_server("memory:", limits, fake_embeddings=True) as live:
        assert live.client.get("/health", headers={"Host": "tables.example"}).status_code == 200
        answer = live.client.post("/api/v1/tables", content=b"[" + b" " * 5_000 + b"]")
        problem = check_problem(answer, 413, "too-large")
        assert problem["context"] == {"max_bytes": 1000}
        chunked = live.client.post("/api/v1/tables", content=iter([b" " * 600] * 3))
        check_problem(chunked, 413, "too-large")
        hold = [_half_a_request(live) for _ in range(2)]
        try:
            busy = live.client.get("/api/v1/tables")
            check_problem(busy, 503, "overloaded")
            assert busy.headers["retry-after"] == "1"
            assert live.client.get("/health").status_code == 200
        finally:
            for connection in hold:
                connection.close()
        until(lambda: live.client.get("/api/v1/tables").status_code == 200)


def _half_a_request(live: Live) -> socket.socket:
    """A request under way: its body has not ended."""
    port = int(live.url.rpartition(":")[2])
    connection = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
    head = b"POST /api/v1/tables HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
    connection.sendall(head + b"Expect: 100-continue\r\nContent-Type: application/json\r\n\r\n")
    # The server says 100 when the operation begins to read: then the request counts.
    assert b"100" in connection.recv(1_000)
    return connection


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.0\r\n\r\n", b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"]
)
def test_a_missing_host_is_refused(live: Live, head: bytes) -> None:
    assert live.raw(head).split(b" ")[1] == b"400"
