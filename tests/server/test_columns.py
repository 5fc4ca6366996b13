"""Embedding columns, indexes and jobs over HTTP."""

import json
from typing import Any

import httpx
import pytest

from tests.server.live import Live
from tests.server.test_envelope import check_problem
from tests.server.test_openapi import check
from tests.waiting import until

TABLE = "/api/v1/tables/t"
COMPUTED = f"{TABLE}/columns/computed"
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
JOB_FIELDS = {"id", "kind", "table", "status", "done", "total", "rate", "eta_s", "created_at"}


@pytest.fixture
def t(api: httpx.Client) -> httpx.Client:
    columns = {"title": "string", "teaches": "string", "n": "int", "v": {"type": "vector", "dimensions": 2}}
    api.post("/api/v1/tables", json={"name": "t", "columns": columns})
    return api


def insert(api: httpx.Client, n: int, prefix: str = "r") -> dict[str, Any]:
    rows = [
        {"id": f"{prefix}{i}", "title": f"title {i}", "teaches": f"how to {prefix} {i}", "n": i}
        for i in range(n)
    ]
    answer = api.post(f"{TABLE}/rows", json={"rows": rows})
    assert answer.status_code == 201, answer.text
    return answer.json()


def finished(api: httpx.Client, job: str) -> dict[str, Any]:
    ended = ("done", "error", "cancelled")
    return until(lambda: api.get(f"/api/v1/jobs/{job}").json(), lambda found: found["status"] in ended)


def built(api: httpx.Client) -> dict[str, Any]:
    """The table's only index, when it is no longer building."""
    return until(
        lambda: api.get(f"{TABLE}/indexes").json()["indexes"][0], lambda index: index["status"] != "building"
    )


def test_added_to_an_empty_table(t: httpx.Client) -> None:
    made = t.post(f"{COMPUTED}/embedding", json={"name": "e", "source_column": "teaches"})
    assert made.status_code == 201
    assert made.json() == {
        "column_name": "e",
        "type": "embedding",
        "dimensions": 384,
        "model": made.json()["model"],
        "source": "teaches",
    }
    assert "MiniLM" in made.json()["model"]
    assert insert(t, 3)["pending"] == 0
    listed = t.get(COMPUTED).json()
    assert listed == {
        "columns": [
            {
                **made.json(),
                "metric": "cosine",
                "auto_update": True,
                "cache": True,
                "states": {"ready": 3, "new": 0, "stale": 0, "error": 0, "empty": 0, "in_progress": 0},
            }
        ]
    }
    described = t.get(TABLE).json()["columns"]["e"]
    assert (described["type"], described["dimensions"]) == ("vector", 384)
    row = t.get(f"{TABLE}/rows/r0", params={"select": "e"}).json()
    assert len(row["e"]) == 384


@pytest.mark.parametrize("name", [None, "all-MiniLM-L6-v2", "SENTENCE-TRANSFORMERS/all-minilm-l6-v2"])
def test_a_model_is_told_by_its_one_name(t: httpx.Client, name: str | None) -> None:
    body = {"name": "e", "source_column": "title"} | ({"model": name} if name else {})
    assert t.post(f"{COMPUTED}/embedding", json=body).json()["model"] == MODEL
    assert t.get(COMPUTED).json()["columns"][0]["model"] == MODEL
    insert(t, 2)
    found = t.post(f"{TABLE}/search/similarity", json={"query": "title 1", "column": "e"}).json()
    assert found["coverage"] == {"rows": 2, "searchable": 2}


def test_added_to_a_table_with_rows(t: httpx.Client) -> None:
    insert(t, 400)
    body = {
        "name": "e",
        "template": "{title}\n{teaches}",
        "model": MODEL,
        "metric": "dot",
        "cache": False,
    }
    made = t.post(f"{COMPUTED}/embedding", json=body).json()
    assert made["source"] == "{title}\n{teaches}"
    job = finished(t, made["job"])
    assert job["status"] == "done"
    assert set(job) == JOB_FIELDS | {"finished_at"}
    assert (job["done"], job["total"], job["table"]) == (400, 400, "t")
    column = t.get(COMPUTED).json()["columns"][0]
    assert column["states"]["ready"] == 400
    assert (column["metric"], column["auto_update"], column["cache"]) == ("inner_product", True, False)
    table = t.get(TABLE).json()
    assert table["columns"]["e"]["embedding"]["source"] is None
    check(table, {"$ref": "#/components/schemas/TableDescription"})
    listed = t.get("/api/v1/jobs").json()["jobs"]
    assert made["job"] in [j["id"] for j in listed]


def test_without_auto_update_cells_wait_for_a_refresh(t: httpx.Client) -> None:
    t.post(f"{COMPUTED}/embedding", json={"name": "e", "source_column": "teaches", "auto_update": False})
    insert(t, 5)
    column = t.get(COMPUTED).json()["columns"][0]
    assert (column["auto_update"], column["states"]["new"]) == (False, 5)
    asked = t.post(f"{COMPUTED}/e/refresh").json()
    assert asked["matched"] == 5
    assert finished(t, asked["job"])["done"] == 5
    assert t.get(COMPUTED).json()["columns"][0]["states"]["ready"] == 5


def test_refreshed(t: httpx.Client) -> None:
    t.post(f"{COMPUTED}/embedding", json={"name": "e", "source_column": "teaches"})
    insert(t, 20)
    answer = t.post(f"{COMPUTED}/e/refresh")
    assert answer.status_code == 202
    assert set(answer.json()) == {"job", "matched"}
    assert answer.json()["matched"] == 0
    where = {"column": "n", "operator": "<", "value": 5}
    forced = t.post(f"{COMPUTED}/e/refresh", json={"where": where, "force": True})
    assert forced.json()["matched"] == 5
    assert finished(t, forced.json()["job"])["status"] == "done"
    assert t.post(f"{COMPUTED}/e/refresh", json={"errors_only": True}).json()["matched"] == 0
    check_problem(t.post(f"{COMPUTED}/nope/refresh"), 404, "not-found")
    check_problem(t.post(f"{COMPUTED}/v/refresh"), 404, "not-found")
    bad = {"where": {"column": "nope", "operator": "=", "value": 1}}
    check_problem(t.post(f"{COMPUTED}/e/refresh", json=bad), 400, "unknown-column")


def test_dropped(t: httpx.Client) -> None:
    t.post(f"{COMPUTED}/embedding", json={"name": "e", "source_column": "teaches"})
    assert t.delete(f"{COMPUTED}/e").status_code == 204
    assert t.get(COMPUTED).json() == {"columns": []}
    problem = check_problem(t.delete(f"{COMPUTED}/e"), 404, "not-found")
    assert "no embedding columns" in problem["hint"]
    check_problem(t.delete(f"{COMPUTED}/title"), 404, "not-found")


def test_what_cannot_be_an_embedding_column(t: httpx.Client) -> None:
    bad: list[tuple[dict[str, Any], int, str]] = [
        ({"name": "e"}, 400, "invalid-input"),
        ({"name": "e", "source_column": "a", "template": "{title}"}, 400, "invalid-input"),
        ({"name": "e", "source_column": "nope"}, 400, "unknown-column"),
        ({"name": "e", "source_column": "v"}, 400, "invalid-input"),
        ({"name": "e", "template": "{nope}"}, 400, "unknown-column"),
        ({"name": "e", "template": "{title"}, 400, "invalid-input"),
        ({"name": "e", "template": "no column"}, 400, "invalid-input"),
        ({"name": "title", "source_column": "teaches"}, 409, "already-exists"),
        ({"name": "score", "source_column": "teaches"}, 400, "invalid-input"),
        ({"name": "a b", "source_column": "teaches"}, 400, "invalid-input"),
        ({"name": "e", "source_column": "teaches", "metric": "x"}, 400, "invalid-input"),
        ({"name": "e", "source_column": "teaches", "model": "no/such-model"}, 404, "model-not-found"),
        ({"name": "e", "source_column": "teaches", "model": "../../etc"}, 400, "invalid-input"),
        ({"name": "e", "source_column": "teaches", "model": "/etc"}, 400, "invalid-input"),
        ({"name": "e", "source_column": "teaches", "model": ""}, 400, "invalid-input"),
    ]
    for body, status, code in bad:
        check_problem(t.post(f"{COMPUTED}/embedding", json=body), status, code)
    assert t.get(COMPUTED).json() == {"columns": []}


def test_vector_indexes(t: httpx.Client) -> None:
    rows = [{"id": str(i), "v": [1, i / 100]} for i in range(300)]
    t.post(f"{TABLE}/rows", json={"rows": rows})
    made = t.post(
        f"{TABLE}/indexes/vector",
        json={"column": "v", "method": "hnsw", "parameters": {"m": 8, "ef_construction": 40}},
    )
    assert made.status_code == 201, made.text
    assert set(made.json()) == {"index_name", "column", "method", "status"}
    assert made.json()["status"] in ("building", "ready")
    name = made.json()["index_name"]
    index = built(t)
    assert index["status"] == "ready", index
    assert (index["name"], index["type"], index["method"], index["column"]) == (name, "vector", "hnsw", "v")
    assert index["rows_covered"] == 300
    assert index["recall"] >= 0.9
    flat = t.post(f"{TABLE}/indexes/vector", json={"column": "v", "method": "flat", "metric": "cosine"})
    assert flat.json()["status"] == "ready"
    assert t.delete(f"{TABLE}/indexes/{name}").status_code == 204
    check_problem(t.delete(f"{TABLE}/indexes/{name}"), 404, "index-not-found")
    bad: list[tuple[dict[str, Any], int, str]] = [
        ({"column": "v", "method": "annoy"}, 400, "invalid-input"),
        ({"column": "v", "method": "hnsw", "metric": "euclidean"}, 400, "invalid-input"),
        ({"column": "v", "method": "hnsw", "parameters": {"mm": 8}}, 400, "invalid-input"),
        ({"column": "v", "method": "hnsw", "parameters": {"m": "x"}}, 400, "invalid-input"),
        ({"column": "v", "method": "hnsw", "parameters": {"m": 10**9}}, 400, "invalid-input"),
        ({"column": "title", "method": "hnsw"}, 400, "invalid-input"),
        ({"column": "nope", "method": "hnsw"}, 400, "unknown-column"),
    ]
    for body, status, code in bad:
        check_problem(t.post(f"{TABLE}/indexes/vector", json=body), status, code)


@pytest.mark.parametrize("method", ["hnsw", "ivfflat", "ivfpq"])
def test_recall_is_measured_in_small_tables_too(t: httpx.Client, method: str) -> None:
    t.post(f"{TABLE}/rows", json={"rows": [{"id": str(i), "v": [1, i / 10]} for i in range(40)]})
    assert t.post(f"{TABLE}/indexes/vector", json={"column": "v", "method": method}).status_code == 201
    index = built(t)
    assert (index["status"], index["rows_covered"]) == ("ready", 40)
    assert index["recall"] >= 0.9
    assert index["recall"] == round(index["recall"], 4)


def test_scalar_indexes(live: Live, t: httpx.Client) -> None:
    made = t.post(f"{TABLE}/indexes/scalar", json={"column": "n", "type": "btree"})
    if live.database.backend.capabilities.scalar_indexes:
        assert made.status_code == 201
        name = made.json()["index_name"]
        assert made.json() == {"index_name": name, "column": "n", "type": "btree", "status": "ready"}
        expected = [{"name": name, "type": "btree", "column": "n", "status": "ready"}]
        assert t.get(f"{TABLE}/indexes").json() == {"indexes": expected}
        assert t.delete(f"{TABLE}/indexes/{name}").status_code == 204
    else:
        check_problem(made, 422, "unsupported")
    for body in ({"column": "n", "type": "gin"}, {"column": "v", "type": "btree"}, {"type": "btree"}):
        check_problem(t.post(f"{TABLE}/indexes/scalar", json=body), 400, "invalid-input")


def test_jobs_are_watched_and_cancelled(t: httpx.Client) -> None:
    t.post(f"{COMPUTED}/embedding", json={"name": "e", "source_column": "teaches"})
    job = insert(t, 2_000)["job"]
    with t.stream("GET", f"/api/v1/jobs/{job}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = list(stream.iter_lines())
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert events[-1]["status"] == "done", "the stream ends when the job ends"
    assert [e["id"] for e in events] == [job] * len(events)
    assert all(set(e) >= JOB_FIELDS for e in events)
    ended = t.post(f"/api/v1/jobs/{job}/cancel")
    assert (ended.status_code, ended.json()["status"]) == (200, "done")
    insert(t, 3_000, "other")
    running = t.get("/api/v1/jobs").json()["jobs"][0]
    cancelled = t.post(f"/api/v1/jobs/{running['id']}/cancel").json()
    assert cancelled["status"] in ("cancelled", "done")
    assert "finished_at" in cancelled
    for path in ("", "/events"):
        check_problem(t.get(f"/api/v1/jobs/nope{path}"), 404, "job-not-found")
    check_problem(t.post("/api/v1/jobs/nope/cancel"), 404, "job-not-found")
    check_problem(t.get("/api/v1/jobs/%2e%2e%2ftable"), 404, "not-found")


def test_watchers_take_no_room(t: httpx.Client) -> None:
    t.post(f"{COMPUTED}/embedding", json={"name": "e", "source_column": "teaches"})
    job = insert(t, 1_500, "more")["job"]
    with t.stream("GET", f"/api/v1/jobs/{job}/events") as stream:
        next(stream.iter_lines())
    assert finished(t, job)["status"] == "done"
