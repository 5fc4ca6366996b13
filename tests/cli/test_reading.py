"""tables, describe, search, status, models: the same facts for people and for programs."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import CommandLine
from vectable import connect


def test_tables_says_what_there_is(books: CommandLine) -> None:
    (found,) = books.json("tables")["tables"]
    assert (found["name"], found["rows"]) == ("books", 3)
    assert found["columns"][:3] == ["id", "title", "blurb"]
    assert found["embedding_columns"]["blurb_embedding"]["ready"] == 3
    assert "blurb_embedding: 3 ready" in books.ok("tables")


def test_describe_tells_types_key_source_and_states(books: CommandLine) -> None:
    found = books.json("describe", "books")
    assert found["key"] == ["id"]
    assert {n: c["type"] for n, c in found["columns"].items()} == {
        "id": "int",
        "title": "string",
        "blurb": "string",
        "year": "int",
        "price": "float",
        "zip": "string",
        "published": "timestamp",
        "fiction": "bool",
        "blurb_embedding": "vector",
    }
    assert found["columns"]["blurb_embedding"]["embedding"]["source"] == "blurb"
    assert (found["rows"], found["states"]["blurb_embedding"]["ready"]) == (3, 3)
    text = books.ok("describe", "books")
    assert "books: 3 rows, key (id)" in text
    assert "from blurb by sentence-transformers/all-MiniLM-L6-v2" in text


def test_search_answers_as_the_library_does(books: CommandLine) -> None:
    found = books.json("search", "books", "planets and stars", "--on", "blurb_embedding", "--limit", "2")
    with connect(books.database, fake_embeddings=True) as db:
        same = db.table("books").similar("planets and stars").limit(2).collect()
    assert [r["data"]["title"] for r in found["results"]] == [r.title for r in same]
    assert [r["score"] for r in found["results"]] == pytest.approx([r.score for r in same], abs=1e-12)
    assert found["results"][0]["data"]["published"] == "2021-05-06T05:08:09Z"
    assert "blurb_embedding" not in found["results"][0]["data"]
    assert found["coverage"] == {"rows": 3, "searchable": 3}
    assert found["search_time_ms"] > 0 and found["embedding_time_ms"] > 0
    assert "plan" not in found


def test_search_filters_with_literals_and_parameters(books: CommandLine) -> None:
    def titles(*options: str) -> set[str]:
        found = books.json("search", "books", "planets", *options)
        return {r["data"]["title"] for r in found["results"]}

    assert titles("--where", "year >= 1900 and fiction = true") == {"Dune"}
    assert titles("--where", "year >= ?", "--param", "1900", "--where", "title = ? or title = 'Emma'", "--param", "Dune") == {"Dune"}  # fmt: skip # noqa: E501
    assert titles("--where", "zip = ?", "--param", '"00007"') == {"Cosmos"}
    assert titles("--where", "fiction = ?", "--param", "false") == {"Cosmos"}
    assert titles("--where", "year > 3000") == set()


def test_search_selects_orders_limits_and_cuts(books: CommandLine) -> None:
    found = books.json(
        "search", "books", "planets", "--select", "title, year", "--order-by", "-year", "--limit", "2"
    )["results"]
    assert [list(r["data"].items()) for r in found] == [
        [("title", "Cosmos"), ("year", 1980)],
        [("title", "Dune"), ("year", 1965)],
    ]
    assert books.json("search", "books", "planets", "--threshold", "0.999")["results"] == []
    assert books.json("search", "books", "planets", "--limit", "0")["results"] == []


def test_search_shows_scores_times_and_the_plan(books: CommandLine) -> None:
    text = books.ok("search", "books", "planets", "--select", "title", "--exact", "--explain")
    head, _, *rows = text.splitlines()
    assert head.split() == ["score", "title"]
    assert {row.split()[1] for row in rows[:3]} == {"Dune", "Emma", "Cosmos"}
    assert "3 hits in " in text and "exact, 3 of 3 rows searchable" in text
    assert "embedding " in text and "search " in text
    assert "\npath " in text and "\nwhy " in text
    plan = books.json("search", "books", "planets", "--explain")["plan"]
    assert plan["exact"] is True and plan["rows_searchable"] == 3


def test_columns_that_cannot_be_read_side_by_side_are_named_instead(books: CommandLine) -> None:
    text = books.ok("search", "books", "planets", COLUMNS="60")
    head = text.splitlines()[0].split()
    assert head[:2] == ["score", "id"] and "blurb" in head
    assert max(map(len, text.splitlines()[:5])) <= 60
    hidden = text.partition("Not shown: ")[2].partition(". Choose with --select.")[0].split(", ")
    assert {*head, *hidden} == {
        "score", "id", "title", "blurb", "year", "price", "zip", "published", "fiction",
    }  # fmt: skip
    assert "Not shown" not in books.ok("search", "books", "planets", "--select", "title", COLUMNS="60")


def test_status_tells_rows_bytes_and_cells(books: CommandLine) -> None:
    found = books.json("status")
    assert found["tables"][0]["rows"] == 3
    assert found["bytes_on_disk"] > 0
    assert found["jobs"] == []
    text = books.ok("status")
    assert "books: 3 rows" in text and "blurb_embedding: 3 ready" in text and " on disk" in text


def test_the_database_is_named_before_after_or_by_the_environment(books: CommandLine) -> None:
    elsewhere = CommandLine(books.database)
    url = str(books.database)
    expected = books.json("tables")
    assert elsewhere.json("--db", url, "tables") == expected
    assert elsewhere.json("tables", "--db", f"sqlite://{url}") == expected
    assert elsewhere.json("tables", VECTABLE_DB=url) == expected
    assert elsewhere.json("tables", "--db", url, VECTABLE_DB="/nowhere") == expected


def test_models_says_how_near_a_lower_precision_is(cli: CommandLine) -> None:
    name = "all-MiniLM-L6-v2?runtime=openvino&precision=int8"
    shown = cli("models", name, VECTABLE_FAKE_EMBEDDINGS="0").stdout
    assert "cosine to the same model in fp32" in shown
    assert "at least 0.99" in shown


def test_models_lists_what_can_be_named_and_loads_one(cli: CommandLine) -> None:
    models = cli.json("models")["models"]
    assert {"id", "dimensions", "max_tokens", "type", "cached"} <= set(models[0])
    assert {"modalities", "runtime", "precision", "licence"} <= set(models[0])
    assert all(model["runtime"] and model["precision"] for model in models)
    assert models[0]["dimensions"] == 384
    assert "384" in cli.ok("models")
    loaded = cli.json("models", "all-MiniLM-L6-v2")
    assert loaded["dimensions"] == 384 and loaded["load_ms"] >= 0
    assert list(cli.directory.iterdir()) == []


def test_json_survives_a_terminal_that_knows_only_ascii(cli: CommandLine) -> None:
    (cli.directory / "x.jsonl").write_text('{"id": "é", "t": "日本 ☃"}\n', "utf-8")
    cli.ok("import", "x", "x.jsonl", "--embed", "t")
    done = cli("search", "x", "日本", "--json", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert json.loads(done.stdout)["results"][0]["data"] == {"id": "é", "t": "日本 ☃"}
    assert cli("search", "x", "日本", PYTHONIOENCODING="ascii", PYTHONUTF8="0").returncode == 0


def test_a_search_means_something_with_the_real_model(cli: CommandLine) -> None:
    (cli.directory / "notes.csv").write_text(
        "id,note\n1,The whale dived under the ship\n2,She repaired the laptop's keyboard\n"
        "3,Bake the bread at 220 degrees\n",
        "utf-8",
    )
    real = {"VECTABLE_FAKE_EMBEDDINGS": "0"}
    cli.ok("import", "notes", "notes.csv", "--embed", "note", **real)
    for question, expected in (("animals of the sea", 1), ("fixing a computer", 2), ("cooking", 3)):
        best = cli.json("search", "notes", question, "--limit", "1", **real)["results"][0]
        assert best["data"]["id"] == expected
        assert 0.2 < best["score"] < 1
