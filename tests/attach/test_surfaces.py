"""Attached from the command line and over HTTP."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.attach.conftest import dump
from tests.server.live import live_server
from vectable.drivers.postgres import Address
from vectable.testing.postgres_server import PostgresDatabases

BOOKS = """
CREATE TABLE public.books (id int PRIMARY KEY, title text, "what it's about" text);
INSERT INTO public.books VALUES (1, 'A heist in orbit', 'space'), (2, 'Bread at home', 'baking')"""


def execute(url: str, sql: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(**Address.parse(url).arguments)
        await connection.execute(sql)
        await connection.close()

    asyncio.run(run())


def vectable(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "vectable.cli"]
    return subprocess.run([*program, *arguments], capture_output=True, text=True)


def test_from_the_command_line(postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VECTABLE_FAKE_EMBEDDINGS", "1")
    monkeypatch.setenv("VECTABLE_CACHE_DIR", str(tmp_path))
    execute(postgres_url, BOOKS)
    made = vectable("attach", postgres_url, "books", "--embed", "title")
    assert made.returncode == 0, made.stderr
    assert "Attached public.books as books: 2 rows" in made.stdout
    assert "title_embedding: 2 ready; for plain SQL: vectable.books_title_embedding" in made.stdout
    more = vectable("attach", postgres_url, "books", "--embed", "{title}: {what_it_s_about}", "--json")
    assert more.returncode == 0, more.stderr
    assert json.loads(more.stdout)["states"]["embedding"]["ready"] == 2
    hits = vectable("search", "books", "Bread at home: baking", "--on", "embedding", "--db", postgres_url)
    assert "Bread at home" in hits.stdout
    wrong = vectable("attach", postgres_url, "boks")
    assert wrong.returncode == 1
    assert "books" in wrong.stderr
    gone = vectable("detach", postgres_url, "books", "--json")
    assert json.loads(gone.stdout) == {"detached": "books"}
    again = vectable("detach", postgres_url, "books")
    assert again.returncode == 1


def test_a_database_is_as_it_was_before_the_first_table_was_attached(
    postgres_databases: PostgresDatabases, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VECTABLE_FAKE_EMBEDDINGS", "1")
    monkeypatch.setenv("VECTABLE_CACHE_DIR", str(tmp_path))
    name = postgres_databases.create(extension=False)
    url = postgres_databases.url_of(name)
    try:
        execute(url, BOOKS)
        before = dump(url)
        for keep in ([], ["--keep-cache"]):
            made = vectable("attach", url, "books", "--embed", "title")
            assert made.returncode == 0, made.stderr
            gone = vectable("detach", url, "books", *keep)
            assert gone.returncode == 0, gone.stderr
            assert (dump(url) == before) is not bool(keep)
    finally:
        postgres_databases.drop(name)


def test_over_http(postgres_url: str) -> None:
    execute(postgres_url, BOOKS)
    with live_server(postgres_url, fake_embeddings=True) as live:
        made = live.client.post("/api/v1/tables/attach", json={"table": "books", "embed": "title"})
        assert made.status_code == 201, made.text
        assert made.json()["attached"] == {"schema": "public", "table": "books"}
        job = live.client.get(f"/api/v1/jobs/{made.json()['job']}")
        assert job.json()["kind"] == "attach"
        refused = live.client.post("/api/v1/tables/books/rows", json={"rows": [{"id": 3}]})
        assert refused.status_code == 422
        assert "SQL" in refused.json()["hint"]
        assert live.client.delete("/api/v1/tables/books").status_code == 422
        missing = live.client.post("/api/v1/tables/attach", json={"table": "boks"})
        assert missing.status_code == 404
        assert live.client.post("/api/v1/tables/books/detach").status_code == 204
        assert live.client.get("/api/v1/tables").json() == {"tables": []}
