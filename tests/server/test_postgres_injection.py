"""Names and values that try to become SQL, on PostgreSQL, through Python, the command line and HTTP: each is
a name or a value, or refused as one; whatever else is in the database stays as it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest

import vectable
from tests.cli.conftest import CommandLine
from tests.server.live import Live, live_server
from tests.server.test_hostile import OPERATIONS, TABLE, leaves, send, with_value
from vectable.core.schema import check_name
from vectable.drivers.postgres import Address
from vectable.errors import InvalidInput
from vectable.testing.postgres_server import PostgresDatabases
from vectable.testing.samples import HOSTILE_STRINGS

QUOTING = [
    "victims; DROP TABLE victims; --",
    "'; DROP TABLE victims; --",
    '"; DROP TABLE victims; --',
    "\\'; DROP TABLE victims; --",
    "$$; DROP TABLE victims; $$",
    "$1; DROP TABLE victims",
    "x' OR TRUE --",
    "x'||(SELECT secret FROM victims)||'",
    '"victims"',
    "a.public.victims",
    "victims/**/",
    "/*",
    "%s%(x)s%%",
    "{0}",
    "U&'\\0027'",
    "pg_sleep(60)",
    "COPY victims TO PROGRAM 'id'",
    "\x00",
    "a\x00'; DROP TABLE victims; --",
    "x" * 64,
    "é" * 64,
    "",
]
# Unlike those, these are names as good as any other: reserved words, the server's own, longer than it allows.
LEGAL = [
    "select",
    "user",
    "table",
    "order",
    "null",
    "default",
    "ctid",
    "xmin",
    "tableoid",
    "vectable_key",
    "vectable_xid",
    "vectable_rev",
    "key",
    "t",
    "T",
    "pg_class",
    "state",
    "tables",
    "x" * 63,
    "é" * 63,
    "é" * 62 + "e",
    "𐐀" * 16,
]
NAMESPACED = ["public.victims", "pg_catalog.pg_class", "vectable.state", "information_schema.tables"]
FEW = [*QUOTING[1:8:2], "\x00", "x" * 64]
VICTIMS = "CREATE TABLE victims (id int PRIMARY KEY, secret text)"
SETTINGS: dict[str, Any] = {"fake_embeddings": True, "text_model": "hashing/8"}


async def _ask(url: str, *statements: str) -> list[Any]:
    connection = await asyncpg.connect(**Address.parse(url).arguments)
    try:
        return [await connection.fetch(statement) for statement in statements]
    finally:
        await connection.close()


def ask(url: str, *statements: str) -> list[Any]:
    with asyncio.Runner() as runner:
        return runner.run(_ask(url, *statements))


class Bystander:
    """What others have in the database."""

    def __init__(self, url: str) -> None:
        self.url = url
        ask(url, VICTIMS, "INSERT INTO victims VALUES (1, 'untold')", "CREATE ROLE bystander_of_tests")
        self.before = self.look()

    def look(self) -> list[Any]:
        """Everything that is not a table of ours."""
        *found, relations = ask(
            self.url,
            "SELECT * FROM victims",
            "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg_%' ORDER BY 1",
            "SELECT rolname FROM pg_roles ORDER BY 1",
            "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1",
            "SELECT extname FROM pg_extension ORDER BY 1",
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname NOT LIKE 'pg_%' AND n.nspname <> 'vectable'"
            " AND c.relkind IN ('r', 'v', 'm', 'f')"
            " AND (n.nspname, c.relname) NOT IN (SELECT rows_schema, rows_name FROM vectable.tables)",
        )
        return [*found, {tuple(row) for row in relations}]

    def check(self) -> None:
        assert self.look() == self.before
        ask(self.url, "DROP ROLE bystander_of_tests")


@pytest.fixture(scope="module")
def url(postgres_databases: PostgresDatabases) -> Iterator[str]:
    name = postgres_databases.create()
    address = postgres_databases.url_of(name)
    with vectable.connect(address, **SETTINGS):
        pass
    bystander = Bystander(address)
    yield address
    bystander.check()
    postgres_databases.drop(name)


# --- Python


def refused(name: str) -> bool:
    try:
        check_name(name, "table")
    except InvalidInput:
        return True
    return False


def test_python(url: str) -> None:
    assert all(map(refused, QUOTING))
    assert not any(map(refused, LEGAL))
    values = [*QUOTING[:-1], *HOSTILE_STRINGS]
    values = [v.replace("\x00", "␀") for v in values]
    with vectable.connect(url, **SETTINGS) as db:
        for name in QUOTING:
            for attempt in (
                lambda name=name: db.create_table(name, {"a": "string"}),
                lambda name=name: db.create_table("fine", {name: "string"}),
                lambda name=name: db.create_table(f"{name}.fine", {"a": "string"}),
            ):
                with pytest.raises(InvalidInput):
                    attempt()
        named = db.create_table("named", dict.fromkeys([*LEGAL, "json_"], "string") | {"json_": "json"})
        row = {name: values[i % len(values)] for i, name in enumerate(LEGAL)}
        row["json_"] = {value: {value: value} for value in values}
        named.insert({"id": "a", **row})
        assert {k: v for k, v in named.get("a").items() if k != "id"} == row
        for name, value in row.items():
            if name == "json_":
                continue
            found = named.where({"column": name, "operator": "=", "value": value}).order_by(name)
            assert found.select(name).collect().rows == [{name: value}], name
            named.create_index(name, "btree", name=name)
        for value in filter(lambda v: len(v) < 60, values):
            path = f"json_[{json.dumps(value)}][{json.dumps(value)}]"
            assert named.where({"column": path, "operator": "=", "value": value}).count() == 1, path
        for name in filter(None, QUOTING):
            with pytest.raises(InvalidInput):
                named.create_index("select", "btree", name=name)
            with pytest.raises(vectable.VectableError):
                named.where({"column": name, "operator": "=", "value": "x"}).count()
            with pytest.raises(vectable.VectableError):
                named.order_by(name).collect()
        for name in LEGAL + NAMESPACED:
            table = db.create_table(name, {"title": "string"})
            table.add_embedding_column("emb", source="title")
            table.insert([{"id": value, "title": value} for value in values[:5]])
            hits = table.similar(values[1], on="emb").limit(5).collect()
            assert {hit["id"] for hit in hits} == set(values[:5])
            assert table.delete(table.id == values[0]) == 1
        for name in LEGAL:
            db.rename_table(name, f"{name[:50]}_") if len(name) < 50 else None
        for table in db.tables():
            db.drop_table(table.full_name)


# --- the command line


def test_the_command_line(url: str, tmp_path: Path) -> None:
    run = CommandLine(tmp_path).inside
    rows = [
        {"id": v.replace("\x00", ""), "select": v.replace("\x00", "")} for v in dict.fromkeys(QUOTING) if v
    ]
    rows = list({row["id"]: row for row in rows if len(row["id"].encode()) < 500}.values())
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = run("import", "order", "rows.jsonl", "--embed", "select", "--db", url)
    assert made.returncode == 0, made.stderr
    for text in [t for t in FEW if "\x00" not in t]:
        found = run("search", "order", text or "x", "--db", url, "--limit", "1", "--json")
        assert found.returncode == 0, found.stderr
        for arguments in (
            ("describe", text),
            ("search", text, "x"),
            ("search", "order", "x", "--where", f"select = '{text}'"),
            ("import", text, "rows.jsonl"),
        ):
            failed = run(*arguments, "--db", url)
            assert "Traceback" not in failed.stderr
            assert failed.returncode in (0, 1, 2), failed.stderr
    with vectable.connect(url, **SETTINGS) as db:
        assert db.table("order").count() == len(rows)
        db.drop_table("order")


# --- HTTP


@pytest.fixture(scope="module")
def live(url: str) -> Iterator[Live]:
    with live_server(url, fake_embeddings=True) as server:
        yield server


@pytest.fixture
def t(live: Live) -> httpx.Client:
    api = live.client
    columns = {"title": "string", "n": "int", "meta": "json", "v": {"type": "vector", "dimensions": 2}}
    assert api.post("/api/v1/tables", json={"name": "t", "columns": columns}).status_code == 201
    made = {"name": "e", "source_column": "title", "model": "hashing/8"}
    assert api.post(f"{TABLE}/columns/computed/embedding", json=made).status_code == 201
    rows = [{"id": str(i), "title": f"row {i}", "n": i, "meta": {"a": [i]}, "v": [1, i]} for i in range(5)]
    assert api.post(f"{TABLE}/rows", json={"rows": rows}).status_code == 201
    return api


def test_http(t: httpx.Client) -> None:
    for method, path, body in OPERATIONS:
        for place in leaves(body):
            for text in FEW:
                answer = send(t, method, path, json.dumps(with_value(body, place, text)).encode())
                assert "untold" not in answer.text
    for text in QUOTING:
        name = quote(text, safe="").replace(".", "%2E")
        for method, path in (
            ("GET", f"/api/v1/tables/{name}"),
            ("DELETE", f"/api/v1/tables/{name}"),
            ("GET", f"{TABLE}/rows/{name}"),
            ("DELETE", f"{TABLE}/columns/computed/{name}"),
            ("DELETE", f"{TABLE}/indexes/{name}"),
            ("GET", f"/api/v1/jobs/{name}"),
            ("GET", f"/api/v1/tables?cursor={name}"),
            ("GET", f"{TABLE}/rows/0?select={name}"),
        ):
            answer = t.request(method, path)
            assert answer.status_code < 500, (method, path, answer.text)
        headers = {"Idempotency-Key": text.replace("\x00", "").encode()[:60].decode(errors="ignore") or "k"}
        if headers["Idempotency-Key"].isascii():
            answer = t.post(f"{TABLE}/rows", json={"rows": [{"title": text}]}, headers=headers)
            assert answer.status_code < 500, answer.text
    rows = t.post(f"{TABLE}/query", json={"select": ["id"]}).json()["rows"]
    assert {"0", "1", "2", "3", "4"} <= {r["id"] for r in rows}
