"""Rows over HTTP: in, out by key, changed, deleted."""

import base64
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from tests.server.test_envelope import check_problem

TABLE = "/api/v1/tables/t"
ROWS = f"{TABLE}/rows"


@pytest.fixture
def t(api: httpx.Client) -> httpx.Client:
    columns = {
        "title": "string",
        "stars": {"type": "int", "nullable": False, "default": 0},
        "at": "timestamp",
        "meta": "json",
        "picture": "image",
        "tags": "string[]",
        "emb": {"type": "vector", "dimensions": 2},
    }
    assert api.post("/api/v1/tables", json={"name": "t", "columns": columns}).status_code == 201
    return api


def count(api: httpx.Client) -> int:
    return api.post(f"{TABLE}/query/count", json={}).json()["count"]


def test_inserted_exactly(t: httpx.Client) -> None:
    made = t.post(ROWS, json={"rows": [{"id": "a", "title": "x"}, {"id": "b", "stars": 3}]})
    assert made.status_code == 201
    assert made.json() == {
        "ids": ["a", "b"],
        "inserted": 2,
        "replaced": 0,
        "skipped": 0,
        "pending": 0,
        "errors": 0,
    }
    check_problem(t.post(ROWS, json={"rows": [{"id": "c"}, {"id": "a"}]}), 409, "key-exists")
    assert count(t) == 2, "all rows or none"
    rows = [{"id": "a", "title": "new"}, {"id": "d"}]
    skipped = t.post(ROWS, json={"rows": rows, "on_conflict": "skip"}).json()
    assert (skipped["inserted"], skipped["skipped"], skipped["replaced"]) == (1, 1, 0)
    assert t.get(f"{ROWS}/a").json()["title"] == "x"
    replaced = t.post(ROWS, json={"rows": rows, "on_conflict": "replace"}).json()
    assert (replaced["inserted"], replaced["skipped"], replaced["replaced"]) == (0, 0, 2)
    assert t.get(f"{ROWS}/a").json()["title"] == "new"


def test_ids_are_made_where_none_are_given(t: httpx.Client) -> None:
    ids = t.post(ROWS, json={"rows": [{}, {"id": None}]}).json()["ids"]
    assert len(set(ids)) == 2
    assert all(len(i) == 36 and i[14] == "7" for i in ids)
    assert t.get(f"{ROWS}/{ids[0]}").json()["id"] == ids[0]


def test_values_go_in_and_come_out(t: httpx.Client) -> None:
    vector = np.array([0.5, -1.25], "<f4")
    encoded = {"base64": base64.b64encode(vector.tobytes()).decode()}
    row = {
        "id": "a",
        "title": "ünï 😀 \"quoted\" 'single' %_ \\",
        "stars": -(2**63),
        "at": "2026-01-31T13:00:00.123456+01:00",
        "meta": {"a": [1, 2.5, None, True, {"b": ""}]},
        "picture": {"base64": "aGk="},
        "tags": ["x", ""],
        "emb": encoded,
    }
    assert t.post(ROWS, json={"rows": [row, {**row, "id": "b", "emb": [0.5, -1.25]}]}).status_code == 201
    expected = {**row, "at": "2026-01-31T12:00:00.123456Z"}
    del expected["emb"]
    assert t.get(f"{ROWS}/a").json() == expected, "vectors are left out unless selected"
    for key in ("a", "b"):
        asked: dict[str, Any] = {"select": ["id", "emb"]}
        assert t.get(f"{ROWS}/{key}", params=asked).json() == {"id": key, "emb": [0.5, -1.25]}
        found = t.get(f"{ROWS}/{key}", params={**asked, "encoding_format": "base64"}).json()
        assert found == {"id": key, "emb": encoded}
    assert t.get(f"{ROWS}/a", params={"select": "*"}).json() == expected
    assert t.get(f"{ROWS}/a", params={"select": "stars,title"}).json()["stars"] == -(2**63)
    check_problem(t.get(f"{ROWS}/a", params={"select": "titel"}), 400, "unknown-column")
    check_problem(t.get(f"{ROWS}/a", params={"encoding_format": "hex"}), 400, "invalid-input")


@pytest.mark.parametrize(
    "key",
    [
        "a/b",
        "a,b",
        "..",
        "%2F",
        "ü 😀",
        "a?b#c",
        "",
        " ",
        "/",
        "//x//",
        "rows/rows/x",
        "'; drop table t; --",
        "x" * 900,
    ],
)
def test_any_text_can_be_an_id(t: httpx.Client, key: str) -> None:
    assert t.post(ROWS, json={"rows": [{"id": key}]}).json()["ids"] == [key]
    # Written by hand, because clients tidy dots in a path.
    escaped = quote(key, safe="").replace(".", "%2E")
    assert t.get(f"{ROWS}/{escaped}").json()["id"] == key
    check_problem(t.get(f"{ROWS}/{escaped}x"), 404, "row-not-found")


def test_keys_no_path_can_carry_are_asked_for_as_a_parameter(t: httpx.Client) -> None:
    keys = [".", "..", "a/b,c", "", "plain"]
    assert t.post(ROWS, json={"rows": [{"id": k, "title": k} for k in keys]}).status_code == 201
    for key in keys:
        answer = t.get(ROWS, params={"id": key, "select": "title"})
        assert answer.json() == {"title": key}
    check_problem(t.get(ROWS, params={"id": "..."}), 404, "row-not-found")
    check_problem(t.get(ROWS), 400, "invalid-input")
    check_problem(t.get(ROWS, params={"id": ["a", "b"]}), 400, "invalid-input")
    t.post("/api/v1/tables", json={"name": "k", "columns": {"a": "string", "b": "int"}, "key": ["a", "b"]})
    t.post("/api/v1/tables/k/rows", json={"rows": [{"a": "..", "b": 1}]})
    assert t.get("/api/v1/tables/k/rows", params={"id": ["..", "1"]}).json() == {"a": "..", "b": 1}
    check_problem(t.get("/api/v1/tables/k/rows", params={"id": ".."}), 400, "invalid-input")


def test_keys_of_several_columns(api: httpx.Client) -> None:
    columns = {"site": "string", "n": "int", "at": "timestamp"}
    api.post("/api/v1/tables", json={"name": "t", "columns": columns, "key": ["site", "n", "at"]})
    row = {"site": "a,b/c", "n": -5, "at": "2026-01-31T12:00:00Z"}
    assert api.post(ROWS, json={"rows": [row]}).json()["ids"] == [["a,b/c", -5, "2026-01-31T12:00:00Z"]]
    path = ",".join(quote(part, safe="") for part in ("a,b/c", "-5", "2026-01-31T12:00:00Z"))
    assert api.get(f"{ROWS}/{path}").json() == row
    check_problem(api.get(f"{ROWS}/a"), 400, "invalid-input")
    check_problem(api.get(f"{ROWS}/a,x,2026-01-31T12:00:00Z"), 400, "invalid-input")
    check_problem(api.get(f"{ROWS}/a,1,yesterday"), 400, "invalid-input")


def test_bad_rows_are_named(t: httpx.Client) -> None:
    bad: list[tuple[Any, str]] = [
        ({"titel": "x"}, "did you mean 'title'"),
        ({"stars": "many"}, "row 1"),
        ({"stars": None}, "stars"),
        ({"stars": 2**63}, "64 bits"),
        ({"stars": 1.5}, "integer"),
        ({"title": 7}, "string"),
        ({"title": "a\x00b"}, "U+0000"),
        ({"at": "yesterday"}, "timestamp"),
        ({"at": "2026-01-31T12:00:00"}, "time zone"),
        ({"tags": ["x", 1]}, "tags"),
        ({"picture": "not an image"}, "image"),
        ({"picture": {"base64": "!"}}, "base64"),
        ({"emb": [1]}, "dimensions"),
        ({"emb": [0, 0]}, "zero vector"),
        ({"emb": ["1", "2"]}, "not a number"),
        ({"emb": [1e39, 1]}, "finite"),
        ({"emb": {"base64": "AAA="}}, "bytes"),
        ({"emb": {"base64": "AAAAAAAAAAA=", "x": 1}}, "base64"),
        ({"emb": "AAAAAAAAAAA="}, "vector"),
        ({"id": "k" * 2_000}, "1024"),
        ({"id": 7}, "string"),
    ]
    for row, why in bad:
        problem = check_problem(t.post(ROWS, json={"rows": [{"id": "fine"}, row]}), 400, "invalid-row")
        assert why in problem["error"], problem
        assert problem["context"]["row"] == 1
    not_rows: list[Any] = [
        {"rows": [{}, 7]},
        {"rows": {}},
        {"rows": [{}], "on_conflict": "ignore"},
        {"rows": [{}] * 10_001},
        {"row": []},
        {},
        [],
    ]
    for body in not_rows:
        check_problem(t.post(ROWS, json=body), 400, "invalid-input")
    assert count(t) == 0
    check_problem(t.post("/api/v1/tables/nope/rows", json={"rows": []}), 404, "table-not-found")
    assert t.post(ROWS, json={"rows": []}).json()["ids"] == []


def test_ten_thousand_rows_at_once(t: httpx.Client) -> None:
    rows = [{"id": str(i), "stars": i, "emb": [1.0, i]} for i in range(10_000)]
    assert t.post(ROWS, json={"rows": rows}).json()["inserted"] == 10_000
    assert count(t) == 10_000


def test_updated_and_deleted(t: httpx.Client) -> None:
    t.post(ROWS, json={"rows": [{"id": str(i), "stars": i} for i in range(10)]})
    where = {"column": "stars", "operator": ">=", "value": 7}
    updated = t.patch(ROWS, json={"where": where, "values": {"title": "top"}})
    assert (updated.status_code, updated.json()) == (200, {"updated": 3})
    assert t.get(f"{ROWS}/9").json()["title"] == "top"
    deleted = t.request("DELETE", ROWS, json={"where": where})
    assert (deleted.status_code, deleted.json()) == (200, {"deleted": 3})
    nothing: dict[str, Any] = {"op": "or", "args": []}
    for where_ in (None, [], [[]], {}, {"op": "and", "args": []}, {"op": "not", "arg": nothing}):
        empty = {"where": where_}
        check_problem(t.patch(ROWS, json={**empty, "values": {"title": "x"}}), 400, "invalid-input")
        check_problem(t.request("DELETE", ROWS, json=empty), 400, "invalid-input")
    check_problem(t.request("DELETE", ROWS, json={}), 400, "invalid-input")
    assert t.request("DELETE", ROWS, json={"where": nothing}).json() == {"deleted": 0}
    assert count(t) == 7
    assert t.patch(ROWS, json={"values": {"stars": 1}, "all": True}).json() == {"updated": 7}
    assert t.patch(ROWS, json={"where": {}, "values": {"stars": 1}, "all": True}).json() == {"updated": 7}
    check_problem(t.patch(ROWS, json={"values": {"id": "x"}, "all": True}), 400, "invalid-input")
    check_problem(t.patch(ROWS, json={"values": {"nope": 1}, "all": True}), 400, "unknown-column")
    assert t.patch(ROWS, json={"values": {"stars": "x"}, "all": True}).status_code == 400
    assert t.request("DELETE", ROWS, json={"all": True}).json() == {"deleted": 7}
    assert count(t) == 0
