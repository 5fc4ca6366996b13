"""Searching a PostgreSQL database from the command line."""

from __future__ import annotations

import json

from tests.cli.conftest import CommandLine
from vectable import connect


def test_the_plan_of_the_server_is_shown_when_asked_for(cli: CommandLine, postgres_url: str) -> None:
    with connect(postgres_url, fake_embeddings=True) as database:
        notes = database.create_table("notes", {"text": "string"})
        notes.add_embedding_column("emb", source="text")
        notes.insert([{"text": text} for text in ("one", "two", "three")])
    asked = ("search", "notes", "two", "--limit", "1", "--backend-plan", "--db", postgres_url)
    done = cli(*asked, VECTABLE_RESIDENT_BYTES="0")
    assert done.returncode == 0, done.stderr
    assert "backend plan" in done.stdout and "cost=" in done.stdout
    done = cli(*asked, "--json", VECTABLE_RESIDENT_BYTES="0")
    assert "cost=" in json.loads(done.stdout)["plan"]["backend_plan"]
    # Rows in memory are not searched by the server: there is no plan of its to show.
    done = cli(*asked, "--json")
    assert json.loads(done.stdout)["plan"]["backend_plan"] is None
