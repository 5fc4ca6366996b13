"""Similarity search and queries over HTTP."""

import base64
import json
import math
from typing import Any

import httpx
import numpy as np
import pytest

from tests.server.live import Live
from tests.server.test_envelope import check_problem

TABLE = "/api/v1/tables/t"
SEARCH = f"{TABLE}/search/similarity"
QUERY = f"{TABLE}/query"
N = 50


@pytest.fixture
def t(api: httpx.Client) -> httpx.Client:
    """Rows on a half circle, row i at i/N of it; even ones are Go, odd ones Rust; the last has no vector."""
    columns = {
        "language": "string",
        "n": "int",
        "meta": "json",
        "emb": {"type": "vector", "dimensions": 2, "metric": "cosine"},
    }
    api.post("/api/v1/tables", json={"name": "t", "columns": columns})
    angles = np.linspace(0, math.pi, N)
    rows = [
        {
            "id": f"{i:03}",
            "language": ("Go", "Rust")[i % 2],
            "n": i,
            "meta": {"stars": i * 10},
            "emb": [math.cos(a), math.sin(a)],
        }
        for i, a in enumerate(angles)
    ]
    del rows[-1]["emb"]
    assert api.post(f"{TABLE}/rows", json={"rows": rows}).status_code == 201
    return api


def search(api: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = api.post(SEARCH, json={"query": [1, 0], "column": "emb", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(found: dict[str, Any]) -> list[str]:
    return [hit["data"]["id"] for hit in found["results"]]


def test_answers_exactly_what_the_contract_says(t: httpx.Client) -> None:
    found = search(t)
    assert set(found) == {"results", "query_embedding", "search_time_ms", "coverage"}
    assert ids(found) == [f"{i:03}" for i in range(10)], "limit is 10 unless given"
    assert [set(hit) for hit in found["results"]] == [{"data"}] * 10
    assert set(found["results"][0]["data"]) == {"id", "language", "n", "meta"}
    assert found["query_embedding"] == [1.0, 0.0]
    assert 0 < found["search_time_ms"] < 60_000
    assert found["coverage"] == {"rows": N, "searchable": N - 1}


def test_every_option(t: httpx.Client) -> None:
    found = search(t, include_score=True, limit=3)
    hit = found["results"][2]
    assert set(hit) == {"data", "score", "distance"}
    assert hit["score"] == pytest.approx(math.cos(2 * math.pi / (N - 1)), abs=1e-6)
    assert hit["distance"] == pytest.approx(1 - hit["score"], abs=1e-12)
    assert search(t, include_query_embedding=False)["query_embedding"] is None
    assert ids(search(t, limit=0)) == []
    assert len(ids(search(t, limit=10_000))) == N - 1
    assert len(ids(search(t, limit=100, threshold=0.0))) == sum(
        math.cos(i * math.pi / (N - 1)) >= 0 for i in range(N - 1)
    )
    assert list(search(t, select=["n"])["results"][0]["data"]) == ["n"]
    with_vector = search(t, select=["*", "emb"])["results"][0]["data"]
    assert with_vector["emb"] == [1.0, 0.0]
    plan = search(t, explain=True)["plan"]
    assert plan["exact"] is True
    assert plan["path"]
    assert plan["why"]
    assert search(t, exact=True, explain=True)["plan"]["exact"] is True


def test_vectors_in_and_out_as_base64(t: httpx.Client) -> None:
    raw = np.array([0, 1], "<f4").tobytes()
    encoded = {"base64": base64.b64encode(raw).decode()}
    found = search(t, query=encoded, encoding_format="base64", select=["id", "emb"], limit=1)
    assert found["query_embedding"] == encoded
    emb = found["results"][0]["data"]["emb"]
    assert np.frombuffer(base64.b64decode(emb["base64"]), "<f4") == pytest.approx([0, 1], abs=0.05)


FILTERS = [
    {"column": "language", "operator": "=", "value": "Go"},
    [{"column": "language", "operator": "=", "value": "Go"}],
    {"op": "not", "arg": {"column": "language", "operator": "=", "value": "Rust"}},
    {"op": "or", "args": [{"column": "language", "operator": "in", "value": ["Go", "C"]}]},
    {"sql": "language = ?", "params": ["Go"]},
    {"sql": "language in (?, ?) and meta.stars >= ?", "params": ["Go", "C", 0]},
]


@pytest.mark.parametrize("filters", FILTERS, ids=json.dumps)
def test_filters_in_every_spelling(t: httpx.Client, filters: Any) -> None:
    even = [f"{i:03}" for i in range(0, N, 2)]
    assert ids(search(t, filters=filters)) == even[:10]
    assert t.post(f"{QUERY}/count", json={"where": filters}).json() == {"count": len(even)}
    rows = t.post(QUERY, json={"where": filters, "select": ["id"]}).json()["rows"]
    assert [r["id"] for r in rows] == even


def test_what_cannot_be_searched(t: httpx.Client) -> None:
    bad: list[tuple[dict[str, Any], int, str]] = [
        ({"query": [1, 0, 0]}, 400, "invalid-vector"),
        ({"query": [0, 0]}, 400, "invalid-vector"),
        ({"query": []}, 400, "invalid-vector"),
        ({"query": ["a", "b"]}, 400, "invalid-vector"),
        ({"query": [True, False]}, 400, "invalid-vector"),
        ({"query": [None, 1]}, 400, "invalid-vector"),
        ({"query": [[1, 0]]}, 400, "invalid-vector"),
        ({"query": [1e300, 0]}, 400, "invalid-vector"),
        ({"query": {"base64": "x"}}, 400, "invalid-vector"),
        ({"query": {"base64": 7}}, 400, "invalid-vector"),
        ({"query": {"text": "x"}}, 400, "invalid-vector"),
        ({"query": 7}, 400, "invalid-vector"),
        ({"query": None}, 400, "invalid-vector"),
        ({"query": "text on a column of given vectors"}, 400, "invalid-input"),
        ({"column": "nope"}, 400, "unknown-column"),
        ({"column": "n"}, 400, "invalid-input"),
        ({"limit": -1}, 400, "invalid-input"),
        ({"limit": 10_001}, 400, "invalid-input"),
        ({"limit": 10**18}, 400, "invalid-input"),
        ({"limit": 1.5}, 400, "invalid-input"),
        ({"threshold": "high"}, 400, "invalid-input"),
        ({"filters": {"column": "nope", "operator": "=", "value": 1}}, 400, "unknown-column"),
        ({"filters": {"column": "n", "operator": "~", "value": 1}}, 400, "invalid-input"),
        ({"filters": {"column": "n", "operator": "like", "value": "x"}}, 400, "invalid-filter"),
        ({"filters": {"sql": "n = ?; drop table t", "params": [1]}}, 400, "invalid-filter"),
        ({"filters": {"sql": "n = ?", "params": []}}, 400, "invalid-filter"),
        ({"select": ["nope"]}, 400, "unknown-column"),
        ({"select": "id"}, 400, "invalid-input"),
        ({"encoding_format": "int8"}, 400, "invalid-input"),
        ({"top_k": 3}, 400, "invalid-input"),
    ]
    for change, status, code in bad:
        answer = t.post(SEARCH, json={"query": [1, 0], "column": "emb", **change})
        check_problem(answer, status, code)
    missing = t.post("/api/v1/tables/nope/search/similarity", json={"query": [1, 0], "column": "emb"})
    check_problem(missing, 404, "table-not-found")


def test_text_searches_an_embedding_column(api: httpx.Client) -> None:
    api.post("/api/v1/tables", json={"name": "t", "columns": {"teaches": "string"}})
    texts = ["react hooks", "parse dates", "[1, 2]", "sort a list"]
    api.post(f"{TABLE}/rows", json={"rows": [{"id": x, "teaches": x} for x in texts]})
    made = api.post(f"{TABLE}/columns/computed/embedding", json={"name": "e", "source_column": "teaches"})
    assert made.status_code == 201, made.text
    for text in texts:
        found = api.post(
            SEARCH, json={"query": text, "column": "e", "limit": 1, "include_score": True}
        ).json()
        assert found["results"][0]["data"]["teaches"] == text, "a string is always text"
        assert found["results"][0]["score"] == pytest.approx(1, abs=1e-5)
        assert len(found["query_embedding"]) == 384
    wrong = api.post(SEARCH, json={"query": "", "column": "e"})
    check_problem(wrong, 400, "invalid-input")
    image = api.post(SEARCH, json={"query": {"image": {"base64": "aGk="}}, "column": "e"})
    assert image.status_code in (200, 422), "hashing takes images, a text model does not"


def test_queries_and_their_pages(t: httpx.Client) -> None:
    assert [r["id"] for r in t.post(QUERY, json={}).json()["rows"]] == [f"{i:03}" for i in range(N)]
    body = {
        "select": ["n", "meta.stars"],
        "where": {"column": "n", "operator": "<", "value": 20},
        "order_by": ["-language", "-n"],
        "limit": 7,
    }
    expected = [*range(19, 0, -2), *range(18, -1, -2)]
    found, cursor = [], None
    while True:
        page = t.post(QUERY, json=body | ({"cursor": cursor} if cursor else {})).json()
        found += [row["n"] for row in page["rows"]]
        cursor = page.get("next_cursor")
        if cursor is None:
            assert "next_cursor" not in page
            break
    assert found == expected
    assert [r["n"] for r in t.post(QUERY, json={**body, "offset": 3}).json()["rows"]] == expected[3:10]
    for bad, code in (
        ({"cursor": "nonsense"}, "invalid-cursor"),
        ({"limit": 10_001}, "invalid-input"),
        ({"limit": -1}, "invalid-input"),
        ({"offset": -1}, "invalid-input"),
        ({"offset": 10**30}, "invalid-input"),
        ({"order_by": ["nope"]}, "unknown-column"),
        ({"order_by": [""]}, "invalid-input"),
        ({"order_by": [7]}, "invalid-input"),
        ({"order_by": {"a": 1}}, "invalid-input"),
        ({"wher": {}}, "invalid-input"),
        ({"where": "n = 1"}, "invalid-input"),
    ):
        check_problem(t.post(QUERY, json=bad), 400, code)


def test_queries_with_similarity_have_scores(t: httpx.Client) -> None:
    body: dict[str, Any] = {
        "select": ["id"],
        "similar": {"column": "emb", "to": [1, 0], "threshold": 0.9},
        "limit": 5,
    }
    rows = t.post(QUERY, json=body).json()["rows"]
    assert [set(r) for r in rows] == [{"id", "score"}] * 5
    scores = [r["score"] for r in rows]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.9
    by_alias = t.post(QUERY, json={**body, "order_by": ["-similarity_score"]}).json()["rows"]
    assert by_alias == rows
    matching = t.post(f"{QUERY}/count", json=body).json()["count"]
    assert matching == sum(math.cos(i * math.pi / (N - 1)) >= 0.9 for i in range(N - 1))


def test_explain_is_the_plan(t: httpx.Client) -> None:
    plan = t.post(f"{QUERY}/explain", json={"where": FILTERS[0]}).json()
    assert (plan["path"], plan["exact"]) == ("scan", True)
    matching = t.post(f"{QUERY}/count", json={"where": FILTERS[0]}).json()["count"]
    assert (plan["rows_total"], plan["rows_matching"]) == (N, matching)
    assert t.post(f"{QUERY}/explain", json={}).json()["rows_matching"] == N
    similar = {"similar": {"column": "emb", "to": [1, 0]}}
    assert t.post(f"{QUERY}/explain", json=similar).json()["column"] == "emb"


def test_streams_are_ndjson(t: httpx.Client) -> None:
    answer = t.post(f"{QUERY}/stream", json={"select": ["id"], "order_by": ["-n"]})
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line)["id"] for line in answer.text.splitlines()] == [
        f"{i:03}" for i in range(N - 1, -1, -1)
    ]
    nothing = t.post(f"{QUERY}/stream", json={"where": {"column": "n", "operator": "<", "value": 0}})
    assert (nothing.status_code, nothing.text) == (200, "")
    check_problem(t.post(f"{QUERY}/stream", json={"order_by": ["nope"]}), 400, "unknown-column")
    check_problem(t.post("/api/v1/tables/nope/query/stream", json={}), 404, "table-not-found")


def test_streams_are_whole(t: httpx.Client) -> None:
    rows = [{"id": f"x{i:05}", "n": i} for i in range(5_000)]
    t.post(f"{TABLE}/rows", json={"rows": rows})
    every = t.post(f"{QUERY}/stream", json={"select": ["id"]}).text.splitlines()
    assert len(every) == N + 5_000, "a stream without a limit is all of it"
    assert len(t.post(f"{QUERY}/stream", json={"limit": 123}).text.splitlines()) == 123


def test_an_error_midway_is_the_last_line(live: Live, t: httpx.Client) -> None:
    rows = [{"id": f"x{i:05}", "n": i, "language": "y" * 2_000} for i in range(9_000)]
    t.post(f"{TABLE}/rows", json={"rows": rows})
    with t.stream("POST", f"{QUERY}/stream", json={}) as answer:
        lines = answer.iter_lines()
        first = json.loads(next(lines))
        with httpx.Client(base_url=live.url, timeout=60) as other:
            assert other.delete(TABLE).status_code == 204
        last = json.loads(list(lines)[-1])
    assert first["id"] == "000"
    assert set(last) == {"error"}
    assert last["error"]["status"] in (404, 409)
    assert last["error"]["request_id"] == answer.headers["x-request-id"]
