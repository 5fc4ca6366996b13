"""Idempotency-Key: sent twice, done once."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.live import Live, live_server
from tests.server.test_envelope import check_problem
from vectable.core.context import LOCAL
from vectable.server.repeats import Repeats

TABLES = "/api/v1/tables"
ROWS = f"{TABLES}/t/rows"


@pytest.fixture
def t(api: httpx.Client) -> httpx.Client:
    api.post(TABLES, json={"name": "t", "columns": {"n": "int"}})
    return api


def key(name: str, request: Any) -> dict[str, str]:
    """A key of this test's own."""
    return {"Idempotency-Key": f"{request.node.name}-{name}"}


def count(api: httpx.Client) -> int:
    return api.post(f"{TABLES}/t/query/count", json={}).json()["count"]


def test_rows_are_inserted_once(t: httpx.Client, request: pytest.FixtureRequest) -> None:
    headers = key("a", request)
    first = t.post(ROWS, json={"rows": [{"n": 1}, {"n": 2}]}, headers=headers)
    again = t.post(ROWS, json={"rows": [{"n": 1}, {"n": 2}]}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert count(t) == 2
    problem = check_problem(t.post(ROWS, json={"rows": [{"n": 3}]}, headers=headers), 409, "conflict")
    assert "another request" in problem["detail"]
    assert count(t) == 2
    other = t.post(ROWS, json={"rows": [{"n": 1}, {"n": 2}]}, headers=key("b", request))
    assert other.json()["ids"] != first.json()["ids"]


def test_streams_too(t: httpx.Client, request: pytest.FixtureRequest) -> None:
    headers = {**key("a", request), "Content-Type": "application/x-ndjson"}
    body = b"".join(b'{"n": %d}\n' % i for i in range(5_000))
    first = t.post(ROWS, content=body, headers=headers).json()
    assert first["inserted"] == 5_000
    assert t.post(ROWS, content=body, headers=headers).json() == first
    check_problem(t.post(ROWS, content=body + b"\n", headers=headers), 409, "conflict")
    assert count(t) == 5_000


def test_every_post_that_writes(t: httpx.Client, request: pytest.FixtureRequest) -> None:
    t.post(ROWS, json={"rows": [{"n": 1}]})
    embedding = {"name": "e", "template": "n {n}"}
    posts: list[tuple[str, Any]] = [
        (TABLES, {"name": "once", "columns": {}}),
        (f"{TABLES}/t/columns/computed/embedding", embedding),
        (f"{TABLES}/t/columns/computed/e/refresh", {"force": True}),
        (f"{TABLES}/t/indexes/vector", {"column": "e", "method": "flat"}),
        ("/api/v1/embeddings/cache/clear", None),
    ]
    for n, (path, body) in enumerate(posts):
        headers = key(str(n), request)
        first = t.post(path, json=body, headers=headers) if body else t.post(path, headers=headers)
        again = t.post(path, json=body, headers=headers) if body else t.post(path, headers=headers)
        assert first.status_code < 300, first.text
        assert (again.status_code, again.json()) == (first.status_code, first.json())
        assert "idempotency-replayed" in again.headers
    jobs = [j for j in t.get("/api/v1/jobs").json()["jobs"] if j["table"] == "t"]
    headers = key("cancel", request)
    path = f"/api/v1/jobs/{jobs[0]['id']}/cancel"
    assert t.post(path, headers=headers).json() == t.post(path, headers=headers).json()


def test_reads_take_no_notice(t: httpx.Client, request: pytest.FixtureRequest) -> None:
    headers = key("a", request)
    for value in (1, 2):
        where = {"column": "n", "operator": "=", "value": value}
        assert t.post(f"{TABLES}/t/query", json={"where": where}, headers=headers).status_code == 200


def test_failures_are_not_kept(t: httpx.Client, request: pytest.FixtureRequest) -> None:
    headers = key("a", request)
    body = {"rows": [{"id": "a"}]}
    t.post(ROWS, json=body)
    check_problem(t.post(ROWS, json=body, headers=headers), 409, "key-exists")
    t.request("DELETE", ROWS, json={"all": True})
    assert t.post(ROWS, json=body, headers=headers).status_code == 201
    check_problem(t.post(ROWS, json={"rows": 7}, headers=key("b", request)), 400, "invalid-input")


def test_the_same_key_on_another_path_is_another_request(
    t: httpx.Client, request: pytest.FixtureRequest
) -> None:
    headers = key("a", request)
    t.post(TABLES, json={"name": "x", "columns": {}}, headers=headers)
    check_problem(t.post(ROWS, json={"rows": []}, headers=headers), 409, "conflict")


@pytest.mark.parametrize("bad", ["", "a b", "x" * 201, "é".encode()])
def test_what_cannot_be_a_key(t: httpx.Client, bad: Any) -> None:
    answer = t.post(ROWS, json={"rows": [{"n": 1}]}, headers={"Idempotency-Key": bad})
    assert "Idempotency-Key" in check_problem(answer, 400, "invalid-input")["detail"]
    assert count(t) == 0


def test_at_the_same_time_it_is_done_once(
    live: Live, t: httpx.Client, request: pytest.FixtureRequest
) -> None:
    headers = key("a", request)
    start = threading.Barrier(8)

    def post(_: int) -> httpx.Response:
        with httpx.Client(base_url=live.url, timeout=60) as client:
            start.wait()
            return client.post(ROWS, json={"rows": [{"n": 1}] * 50}, headers=headers)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))
    assert {a.status_code for a in answers} == {201}
    assert len({a.text for a in answers}) == 1
    assert sum("idempotency-replayed" in a.headers for a in answers) == 7
    assert count(t) == 50


def test_a_write_whose_answer_was_lost_is_not_done_again(
    live: Live, t: httpx.Client, request: pytest.FixtureRequest
) -> None:
    """As after a crash between the write and the keeping of its answer: the write itself left a receipt."""
    headers = key("a", request)
    body = {"rows": [{"n": 1}, {"n": 2}]}
    first = t.post(ROWS, json=body, headers=headers).json()
    name = f"idempotency/local/{headers['Idempotency-Key']}"
    live.on_loop(live.database.state.commit(deletes=[name]))
    again = t.post(ROWS, json=body, headers=headers)
    assert again.json() == first
    assert "idempotency-replayed" not in again.headers
    assert count(t) == 2


def test_answers_outlive_the_server(tmp_path: Path) -> None:
    headers = {"Idempotency-Key": "k"}
    body = {"name": "t", "columns": {}}
    answers = []
    for _ in range(2):
        with live_server(str(tmp_path), fake_embeddings=True) as live:
            answers.append(live.client.post(TABLES, json=body, headers=headers))
    assert [a.status_code for a in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()


def test_old_answers_are_forgotten(live: Live, t: httpx.Client, request: pytest.FixtureRequest) -> None:
    t.post(ROWS, json={"rows": []}, headers=key("new", request))
    old = json.dumps({"request": "", "status": 201, "body": "", "media_type": None, "at": 1.0}).encode()
    live.on_loop(live.database.state.commit(puts={"idempotency/local/old": old}))
    live.on_loop(Repeats(live.database.state).prune())
    kept = live.on_loop(live.database.state.scan("idempotency/"))
    assert "idempotency/local/old" not in kept
    assert f"idempotency/{LOCAL.principal}/{key('new', request)['Idempotency-Key']}" in kept
