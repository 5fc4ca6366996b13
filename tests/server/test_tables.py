"""Tables over HTTP."""

import httpx

from tests.server.test_envelope import check_problem

TABLES = "/api/v1/tables"


def test_created_described_listed_dropped(api: httpx.Client) -> None:
    columns = {
        "title": "string",
        "stars": {"type": "int", "nullable": False, "default": 0},
        "tags": "string[]",
        "emb": {"type": "vector", "dimensions": 384, "metric": "cosine"},
    }
    created = api.post(TABLES, json={"name": "layouts", "columns": columns})
    assert created.status_code == 201
    found = created.json()
    assert set(found) == {"name", "namespace", "id", "key", "columns", "indexes", "created_at"}
    assert (found["name"], found["namespace"], found["key"], found["indexes"]) == (
        "layouts",
        "main",
        ["id"],
        [],
    )
    assert found["columns"] == {
        "id": {"type": "string", "nullable": False},
        "title": {"type": "string", "nullable": True},
        "stars": {"type": "int", "nullable": False, "default": 0},
        "tags": {"type": "string[]", "nullable": True},
        "emb": {"type": "vector", "nullable": True, "dimensions": 384, "metric": "cosine"},
    }
    assert found["created_at"].endswith("Z")
    assert api.get(f"{TABLES}/layouts").json() == found
    assert api.get(f"{TABLES}/main.layouts").json() == found
    assert api.get(TABLES).json() == {"tables": [found]}
    check_problem(api.post(TABLES, json={"name": "layouts", "columns": {}}), 409, "already-exists")
    assert api.delete(f"{TABLES}/layouts").status_code == 204
    check_problem(api.get(f"{TABLES}/layouts"), 404, "table-not-found")
    check_problem(api.delete(f"{TABLES}/layouts"), 404, "table-not-found")


def test_every_type_and_keys_of_several_columns(api: httpx.Client) -> None:
    types = ["string", "int", "float", "bool", "timestamp", "json", "string[]", "int[]", "float[]", "image"]
    columns = {f"c{i}": name for i, name in enumerate(types)}
    made = api.post(TABLES, json={"name": "ns.all", "columns": columns, "key": ["c0", "c1"]})
    assert made.status_code == 201, made.text
    assert made.json()["key"] == ["c0", "c1"]
    assert [c["type"] for c in made.json()["columns"].values()] == types
    assert made.json()["namespace"] == "ns"
    assert api.get(TABLES, params={"namespace": "ns"}).json()["tables"][0]["name"] == "all"
    assert api.get(TABLES, params={"namespace": "other"}).json() == {"tables": []}


def test_pages_of_tables(api: httpx.Client) -> None:
    names = [f"t{i}" for i in range(7)]
    for name in reversed(names):
        assert api.post(TABLES, json={"name": name, "columns": {}}).status_code == 201
    found, cursor, pages = [], None, 0
    while True:
        page = api.get(TABLES, params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        found += [t["name"] for t in page["tables"]]
        pages += 1
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    assert found == names
    assert pages == 3
    assert "next_cursor" not in api.get(TABLES, params={"limit": 7}).json()
    for bad in ("!!!", "AAAA", "é"):
        check_problem(api.get(TABLES, params={"cursor": bad}), 400, "invalid-cursor")
    for bad in (0, -1, 10_001, "ten", 10**30):
        assert (
            "`limit`" in check_problem(api.get(TABLES, params={"limit": bad}), 400, "invalid-input")["error"]
        )


def test_patched(api: httpx.Client) -> None:
    api.post(TABLES, json={"name": "t", "columns": {"a": "string"}})
    api.post(f"{TABLES}/t/rows", json={"rows": [{"id": "1", "a": "x"}]})
    patch = {
        "rename": "u",
        "add_columns": {"b": {"type": "int", "default": 7}, "c": "string"},
        "drop_columns": ["a"],
    }
    found = api.patch(f"{TABLES}/t", json=patch)
    assert found.status_code == 200, found.text
    assert found.json()["name"] == "u"
    assert list(found.json()["columns"]) == ["id", "b", "c"]
    assert api.get(f"{TABLES}/u/rows/1").json() == {"id": "1", "b": 7, "c": None}
    check_problem(api.get(f"{TABLES}/t"), 404, "table-not-found")
    check_problem(api.patch(f"{TABLES}/u", json={}), 400, "invalid-input")
    check_problem(api.patch(f"{TABLES}/u", json={"drop_columns": ["nope"]}), 400, "unknown-column")
    check_problem(api.patch(f"{TABLES}/u", json={"drop_columns": ["id"]}), 400, "invalid-input")
    check_problem(api.patch(f"{TABLES}/u", json={"add_columns": {"b": "int"}}), 409, "already-exists")
    api.post(TABLES, json={"name": "taken", "columns": {}})
    check_problem(api.patch(f"{TABLES}/u", json={"rename": "taken"}), 409, "already-exists")


def test_what_cannot_be_a_table(api: httpx.Client) -> None:
    bad = [
        {"name": "a.b.c", "columns": {}},
        {"name": "1a", "columns": {}},
        {"name": "", "columns": {}},
        {"name": "__x", "columns": {}},
        {"name": "x" * 64, "columns": {}},
        {"name": "t", "columns": {"a": "text"}},
        {"name": "t", "columns": {"a b": "string"}},
        {"name": "t", "columns": {"score": "float"}},
        {"name": "t", "columns": {"v": "vector"}},
        {"name": "t", "columns": {"v": {"type": "vector", "dimensions": 0}}},
        {"name": "t", "columns": {"v": {"type": "vector", "dimensions": 10**9}}},
        {"name": "t", "columns": {"v": {"type": "vector", "dimensions": 2, "metric": "manhattan"}}},
        {"name": "t", "columns": {"v": {"type": "int", "dimensions": 2}}},
        {"name": "t", "columns": {"v": {"type": "int", "default": "seven"}}},
        {"name": "t", "columns": {"v": {"type": "int", "nullable": "yes"}}},
        {"name": "t", "columns": {}, "key": []},
        {"name": "t", "columns": {}, "key": ["nope"]},
        {"name": "t", "columns": {"v": "json"}, "key": ["v"]},
        {"name": "t", "columns": []},
        {"name": 7, "columns": {}},
        {"columns": {}},
        {"name": "t"},
        [],
        None,
        "t",
    ]
    for body in bad:
        check_problem(api.post(TABLES, json=body), 400, "invalid-input")
    assert api.get(TABLES).json() == {"tables": []}
