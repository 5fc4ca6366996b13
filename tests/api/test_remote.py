"""Remote models wherever a model can be named: tables, embedders, the command line, the server; against a
real HTTP server whose failures are simulated."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectable
from tests.providers.misbehaving_server import (
    MisbehavingServer,
    failing,
    misbehaving_server,
    resetting,
    setting,
)
from tests.server.live import live_server
from vectable.core.vectors import normalize
from vectable.errors import (
    EndpointRefused,
    EndpointUnavailable,
    InvalidInput,
    ModelNotFound,
    SpendCapReached,
)

ROWS = [
    {"id": f"{i}", "text": f"row number {i} is about {topic}"} for i, topic in enumerate(["cats", "dogs"])
]
MODELS = """
[models.cloud]
provider = "openai"
url = "{url}"
dimensions = 32
price_per_million_tokens = 20000
first_wait_s = 0.001
max_attempts = 2
"""


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with misbehaving_server() as found:
        yield found


@pytest.fixture
def models_file(server: MisbehavingServer, tmp_path: Path) -> Path:
    file = tmp_path / "models.toml"
    file.write_text(MODELS.format(url=server.url))
    return file


def add(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


def filled(url: Path, models_file: Path) -> Any:
    db = vectable.connect(url, models_file=models_file)
    table = db.create_table("t", {"text": "string"})
    table.add_embedding_column("emb", source="text", model="cloud")
    return db


def test_a_table_embedded_elsewhere(
    server: MisbehavingServer, models_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    monkeypatch.setattr("vectable.providers.guard.spend.utc_now", lambda: noon)
    with filled(tmp_path / "db", models_file) as db:
        inserted = db.table("t").insert(ROWS)
        assert (inserted.pending, inserted.errors) == (0, 0)
        assert sorted(server.texts) == sorted(row["text"] for row in ROWS), "both, once"
        found = db.table("t").similar("row number 1 is about dogs", on="emb").limit(1).collect()
        assert found[0]["id"] == "1"
        assert found[0].score == pytest.approx(1, abs=1e-6)
        assert len(server.requests) == 1, "what was embedded as a row is known as a query"
        [spend] = db.status()["remote"]["spend"]
        assert (spend["model"], spend["requests"], float(spend["reserved"])) == ("cloud", 1, 0)
        assert float(spend["spent"]) == pytest.approx(12 * 0.02)
        [endpoint] = db.status()["remote"]["endpoints"]
        assert (endpoint["host"], endpoint["breaker"], endpoint["requests"]) == (server.host, "closed", 1)
    with vectable.connect(tmp_path / "db", models_file=models_file) as db:
        db.table("t").insert([{"id": "3", "text": ROWS[0]["text"]}])
        assert len(server.requests) == 1, "the cache outlives the process"


def test_rows_outlive_an_outage(server: MisbehavingServer, models_file: Path, tmp_path: Path) -> None:
    with filled(tmp_path / "db", models_file) as db:
        server.always = failing(503)
        inserted = db.table("t").insert(ROWS)
        assert (inserted.inserted, inserted.pending, inserted.errors) == (2, 2, 0)
        assert len(server.requests) == 2, "tried twice, not once for each row"
        with pytest.raises(EndpointUnavailable):
            db.table("t").similar("cats", on="emb").collect()
        server.always = None
        db.table("t").refresh("emb")
        assert len(db.table("t").similar("cats", on="emb").collect()) == 2


def test_a_write_does_not_wait_for_a_slow_endpoint(
    server: MisbehavingServer, models_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vectable.engine.refresh._INLINE_S", 0.1)
    answers = threading.Event()

    def late(exchange: Any) -> None:
        answers.wait(60)
        exchange.send_json(exchange.answer)

    server.always = late
    with filled(tmp_path / "db", models_file) as db:
        table = db.table("t")
        assert table.insert(ROWS).pending == 2
        answers.set()
        while table.count({"column": "emb.state", "operator": "=", "value": "ready"}) < 2:
            time.sleep(0.01)
        assert len(server.requests) == 1, "what was under way went on"
        answers.clear()
        table.insert([{"id": "3", "text": "given up as the database is closed"}])
    answers.set()


def test_a_text_that_is_refused_costs_the_others_nothing(
    server: MisbehavingServer, models_file: Path, tmp_path: Path
) -> None:
    def refuses_dogs(exchange: Any) -> None:
        if any("dogs" in text for text in exchange.request.texts):
            failing(400, "too long")(exchange)
        else:
            exchange.send_json(exchange.answer)

    server.always = refuses_dogs
    rows = [*ROWS, *({"id": f"x{i}", "text": f"cat {i}"} for i in range(14))]
    with filled(tmp_path / "db", models_file) as db:
        inserted = db.table("t").insert(rows)
        assert (inserted.pending, inserted.errors) == (0, 1)
        assert len(server.requests) < 12, "halves, not one by one"
        assert len(db.table("t").similar("cats", on="emb").limit(50).collect()) == 15


def test_a_vector_that_is_none_is_the_row_s_error(
    server: MisbehavingServer, models_file: Path, tmp_path: Path
) -> None:
    server.misbehave(setting(1, [float("nan")] * 32))
    with filled(tmp_path / "db", models_file) as db:
        inserted = db.table("t").insert(ROWS)
        assert (inserted.pending, inserted.errors) == (0, 1)


def test_the_cap_outlives_the_process(server: MisbehavingServer, models_file: Path, tmp_path: Path) -> None:
    add(models_file, "daily_spend_cap = 0.5\n")
    with vectable.connect(tmp_path / "db", models_file=models_file) as db:
        db.embed("four words are spent", model="cloud")  # reserves 22 tokens, spends 4: 0.08
        with pytest.raises(SpendCapReached, match=r"is 0\.50, 0\.08 of it is spent"):
            db.embed("a text of forty bytes may cost too much", model="cloud")
    with vectable.connect(tmp_path / "db", models_file=models_file) as db:
        with pytest.raises(SpendCapReached):
            db.embed("a text of forty bytes may cost too much", model="cloud")
        db.embed("four words are spent", model="cloud")
        db.embed("fits", model="cloud")
    assert [request.texts for request in server.requests] == [["four words are spent"], ["fits"]]


def test_backups_stand_in(server: MisbehavingServer, models_file: Path) -> None:
    with misbehaving_server() as backup:
        add(models_file, f'\n[[models.cloud.backups]]\nurl = "{backup.url}"\nmax_attempts = 1\n')
        server.always = resetting
        with vectable.connect("memory:", models_file=models_file) as db:
            found = db.embed(["a cat"], model="cloud")
            np.testing.assert_allclose(found, normalize(backup.vectors(["a cat"])), atol=1e-7)
            assert [e["backup"] for e in db.status()["remote"]["endpoints"]] == [False, True]
        assert len(backup.requests) == 1


def test_all_endpoints_fail(server: MisbehavingServer, models_file: Path) -> None:
    with misbehaving_server() as backup:
        add(models_file, f'\n[[models.cloud.backups]]\nurl = "{backup.url}"\nmax_attempts = 1\n')
        server.always = failing(401, "wrong key")
        backup.always = failing(503)
        with vectable.connect("memory:", models_file=models_file) as db:
            with pytest.raises(EndpointUnavailable, match=backup.host):
                db.embed("a cat", model="cloud")
            backup.always = failing(403)
            with pytest.raises(EndpointRefused, match=server.host):
                db.embed("a cat", model="cloud")


def test_an_embedder_without_a_database(server: MisbehavingServer, models_file: Path, tmp_path: Path) -> None:
    add(models_file, "daily_spend_cap = 0.5\n")
    for _ in range(2):
        with vectable.Embedder("cloud", models_file=models_file, cache_dir=tmp_path / "cache") as embedder:
            found = embedder.encode("four words are spent")
            np.testing.assert_allclose(
                found, normalize(server.vectors(["four words are spent"]))[0], atol=1e-7
            )
            with pytest.raises(SpendCapReached):
                embedder.encode("a text of forty bytes may cost too much")
    assert len(server.requests) == 1, "paid for once, in whichever process"


def test_embedders_of_other_models_open_nothing(models_file: Path, tmp_path: Path) -> None:
    with vectable.Embedder("hashing/8", models_file=models_file, cache_dir=tmp_path / "cache") as embedder:
        embedder.encode("a text")
    assert not (tmp_path / "cache").exists()


def test_names_declared_models_beside_the_others(models_file: Path) -> None:
    with vectable.connect("memory:", models_file=models_file) as db:
        cards = {card.id: card for card in db.models()}
        assert (cards["cloud"].dimensions, cards["cloud"].runtime, cards["cloud"].cached) == (
            32,
            "openai",
            False,
        )
        assert "sentence-transformers/all-MiniLM-L6-v2" in cards
    with (
        vectable.Embedder("clowd", models_file=models_file) as embedder,
        pytest.raises(ModelNotFound, match="remote models: cloud"),
    ):
        embedder.card()


def test_a_stand_in_takes_the_place_of_a_remote_model(server: MisbehavingServer, models_file: Path) -> None:
    with vectable.connect("memory:", models_file=models_file, fake_embeddings=True) as db:
        assert db.embed("a", model="cloud").shape == (32,)
        assert "hashing/32?for=cloud" in [card.id for card in db.models() if card.loaded]
    assert server.requests == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[models.a]\n", "models.a.provider"),
        (
            '[models.a]\nprovider="openai"\nurl="http://x"\ndimensions=4\ndimenzions=3',
            "did you mean 'dimensions'",
        ),
        ("not toml", "is not valid TOML"),
    ],
)
def test_a_models_file_that_means_nothing(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "models.toml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=words):
        vectable.connect(tmp_path / "db", models_file=file)
    with pytest.raises(InvalidInput, match="cannot be read"):
        vectable.connect(tmp_path / "db", models_file=tmp_path / "none.toml")
    vectable.connect(tmp_path / "db").close()


def test_the_command_line_knows_them(models_file: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "VECTABLE_MODELS_FILE": str(models_file)}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "vectable.cli", *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "cloud" in [model["id"] for model in json.loads(run("models", "--json"))["models"]]
    assert json.loads(run("models", "cloud", "--json"))["dimensions"] == 32
    with vectable.connect(tmp_path / "db", models_file=models_file) as db:
        db.embed("two words", model="cloud")
    shown = run("status", "--db", "db")
    assert "cloud has cost 0.04 today (UTC), for 2 tokens; 0.00 is set aside" in shown


def test_over_http(server: MisbehavingServer, models_file: Path, tmp_path: Path) -> None:
    add(models_file, "daily_spend_cap = 10\n")
    with live_server(str(tmp_path / "db"), models_file=str(models_file)) as live:

        def generate(text: str) -> Any:
            return live.client.post("/api/v1/embeddings/generate", json={"text": text, "model": "cloud"})

        found = generate("a cat").json()
        assert (found["model"], found["dimensions"], found["cached"]) == ("cloud", 32, False)
        assert generate("a cat").json()["cached"]
        [card] = [
            m for m in live.client.get("/api/v1/embeddings/models").json()["models"] if m["id"] == "cloud"
        ]
        assert card["loaded"]
        assert not card["cached"]
        server.always = failing(503, retry_after="0")
        refused = generate("a dog")
        assert (refused.status_code, refused.json()["code"]) == (503, "endpoint-unavailable")
        server.always = failing(401)
        assert generate("a dog").json()["code"] == "endpoint-refused"
        server.always = None
        sent = len(server.requests)
        over = generate("a long text " * 100)
        assert (over.status_code, over.json()["code"]) == (503, "spend-cap-reached")
        assert 0 < int(over.headers["retry-after"]) <= 86_400
        assert len(server.requests) == sent
