"""What people are told: every refusal says what, where, and what to do instead."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectable
from vectable import Database
from vectable.core.values import MAX_TEXT
from vectable.errors import InvalidInput, InvalidRow, TooLarge, UnknownColumn, Unsupported, VectableError

NOON = dt.datetime(2026, 1, 31, 14, tzinfo=dt.timezone(dt.timedelta(hours=2)))


def refusal(kind: type[VectableError], act: Any) -> str:
    with pytest.raises(kind) as caught:
        act()
    return str(caught.value)


def test_one_row_is_read_like_a_query_reads_it(db: Database) -> None:
    table = db.create_table("t", {"title": "string", "meta": "json"})
    table.add_embedding_column("meaning", source="title", auto_update=False)
    table.insert({"id": "a", "title": "tea", "meta": {"stars": 3, "odd key": [1]}})
    select = ["meta.stars", 'meta["odd key"][0]', "meta.none", "meaning.state", "meaning", "title"]
    row = table.get("a", select=select)
    assert dict(row) == dict(table.where(id="a").select(*select).first() or {})
    assert list(row.values()) == [3, 1, None, "new", None, "tea"]
    table.refresh("meaning")
    assert isinstance(table.get("a", select=["meaning"]).meaning, np.ndarray)
    assert list(table.get("a", select=["*", "meta.stars"])) == ["id", "title", "meta", "meta.stars"]
    assert "did you mean 'meta'" in refusal(UnknownColumn, lambda: table.get("a", select=["mete.stars"]))


def test_defaults_of_every_type_are_kept(tmp_path: Path) -> None:
    defaults: dict[str, tuple[str, Any, Any]] = {
        "text": ("string", "é", "é"),
        "n": ("int", np.int64(7), 7),
        "x": ("float", 1, 1.0),
        "ok": ("bool", False, False),
        "at": ("timestamp", NOON, NOON.astimezone(dt.UTC)),
        "meta": ("json", {"a": [1]}, {"a": [1]}),
        "tags": ("string[]", ["a"], ["a"]),
        "picture": ("image", b"\xff\x00", b"\xff\x00"),
    }
    with vectable.connect(tmp_path, fake_embeddings=True) as db:
        columns = {name: {"type": type_, "default": given} for name, (type_, given, _) in defaults.items()}
        db.create_table("t", columns)
    with vectable.connect(tmp_path, fake_embeddings=True) as db:
        table = db.table("t")
        table.insert([{"id": "a"}, {"id": "b"}])
        expected = {name: kept for name, (_, _, kept) in defaults.items()}
        assert {n: v for n, v in table.get("a").items() if n != "id"} == expected
        assert table.describe()["columns"]["at"]["default"] == "2026-01-31T12:00:00Z"
        table.add_column("later", "image", default=b"\x00")
        assert table.get("b").later == b"\x00"


def test_a_default_belongs_to_each_row_alone(db: Database) -> None:
    table = db.create_table("t", {"tags": {"type": "string[]", "default": []}})
    table.insert([{"id": "a"}, {"id": "b"}])
    table.get("a").tags.append("mine")
    table.insert({"id": "c"})
    assert [row.tags for row in table.select("tags").collect()] == [[], [], []]


def test_a_misspelt_option_is_refused_whether_or_not_it_would_matter(db: Database) -> None:
    assert "error or ok" in refusal(InvalidInput, lambda: db.create_table("t", {}, if_exists="replace"))  # type: ignore[arg-type]
    table = db.create_table("t", {"title": "string"})
    add = table.add_embedding_column
    assert "error or ok" in refusal(InvalidInput, lambda: add("m", source="title", if_exists="Ok"))  # type: ignore[arg-type]


def test_an_update_that_no_row_may_have_is_refused_before_any_row_is_looked_for(db: Database) -> None:
    table = db.create_table(
        "t",
        {"n": "int", "name": {"type": "string", "nullable": False}, "v": {"type": "vector", "dimensions": 2}},
    )
    none = table.id == "nobody"
    assert refusal(InvalidRow, lambda: table.update(none, {"n": "7"})).startswith(
        "column 'n': expected an int"
    )
    assert "may not be null" in refusal(InvalidRow, lambda: table.update(none, {"name": None}))
    assert "3 dimensions" in refusal(InvalidRow, lambda: table.update(none, {"v": [1, 2, 3]}))
    assert "new key" in refusal(InvalidInput, lambda: table.update(none, {"id": "b"}))
    assert table.update(none, {"n": 7, "v": None}) == 0


def test_rows_are_refused_with_a_way_out(db: Database) -> None:
    table = db.create_table(
        "t", {"Title": "string", "tags": "string[]", "v": {"type": "vector", "dimensions": 2}}
    )
    table.insert({"id": "a", "v": [1, 0]})
    for row, words in (
        ({"title": "x"}, "did you mean 'Title'?"),
        ({"Title": 7}, "write it as text"),
        ({"tags": ["a", None]}, "member 1: expected a string, not NoneType (a list holds no nulls"),
        ({"v": [1, 2, 3]}, "give 2 numbers"),
        (dict(table.similar([1, 0]).collect().to_dicts()[0]), "what a search says about a row"),
    ):
        assert words in refusal(InvalidRow, lambda row=row: table.insert(row))
    keyed = db.create_table("keyed", {"a": "string", "n": "int"}, key=["n", "a"])
    assert "made up" in refusal(InvalidRow, lambda: keyed.insert({"a": "x"}))
    assert refusal(InvalidRow, lambda: keyed.insert({"a": "x" * 2_000, "n": 1})).startswith(
        "row 0, key n, a: the"
    )
    assert "key has 2 parts, 1 were given" in refusal(InvalidInput, lambda: keyed.get((1,)))


def test_counts_are_words_people_say(db: Database) -> None:
    table = db.create_table("t", {"title": "string"})
    assert repr(table.insert({"id": "a"})) == "1 row: 1 inserted"
    assert repr(table.insert([{"id": "b"}, {"id": "c"}])) == "2 rows: 2 inserted"


def test_a_plan_reads_like_the_question(db: Database) -> None:
    table = db.create_table("t", {"title": "string", "stars": "int"})
    table.add_embedding_column("meaning", source="title")
    table.insert({"id": "a", "title": "tea", "stars": 5})
    found = table.where((table.stars >= 5) & ~(table.title == "x")).similar("tea").explain()
    assert "stars >= 5 and not (title = 'x')" in repr(found)
    stages = list(found.times_ms)
    assert (stages[0], stages[-1]) == ("embed", "total")


def test_a_verb_of_queries_on_a_table_says_where_it_is(db: Database) -> None:
    table = db.create_table("t", {"title": "string"})
    for verb in ("collect", "first", "stream", "explain"):
        hint = refusal(UnknownColumn, lambda verb=verb: getattr(table, verb)())
        assert f"queries have it: write .select().{verb}()" in hint
        assert callable(getattr(table.select(), verb))


def test_scripts_and_emoji_print_as_they_are_written(db: Database) -> None:
    table = db.create_table("t", {"title": "string"})
    table.insert(
        [
            {"id": "a", "title": "می\u200cخواهم 👩\u200d👩\u200d👧"},
            {"id": "b", "title": "so\u00adft\u200b \u202ex\x1b[31m"},
        ]
    )
    text, page = repr(table.select().collect()), table.select().collect()._repr_html_()
    for shown in (text, page):
        assert "می\u200cخواهم 👩\u200d👩\u200d👧" in shown
        assert "soft \ufffdx\ufffd[31m" in shown


@pytest.mark.parametrize("given", [5, None, "", "  ", b"", {"base64": "AAAA"}, ["a", 5], [1.0, 2.0]])
def test_what_cannot_be_embedded_is_refused(db: Database, given: Any) -> None:
    with pytest.raises(InvalidInput):
        db.embed(given)


def test_models_are_named_by_their_names(db: Database) -> None:
    table = db.create_table("t", {"title": "string", "picture": "image"})
    for name in ("", 5, ["x"]):
        with pytest.raises(InvalidInput):
            table.add_embedding_column("m", source="title", model=name)  # type: ignore[arg-type]
    assert "text" in refusal(Unsupported, lambda: table.add_embedding_column("m", source="picture"))
    with pytest.raises(InvalidInput, match="document or query"):
        db.embed("a", purpose="passage")  # type: ignore[arg-type]


def test_what_is_too_large_is_found_again(db: Database) -> None:
    table = db.create_table("t", {"title": "string", "tags": "string[]", "picture": "image"})
    long = "x" * (MAX_TEXT + 1)
    with pytest.raises(TooLarge, match="row 1, column 'title': the text is 67108865 characters") as caught:
        table.insert([{"title": "a"}, {"title": long}])
    assert caught.value.context == {"row": 1, "column": "title"}
    with pytest.raises(TooLarge, match="row 2001, column 'tags': member 1: the text") as caught:
        table.insert({"tags": ["a", long]} if i == 2_001 else {"title": "a"} for i in range(2_002))
    assert caught.value.context == {"row": 2_001, "column": "tags", "inserted": 2_000}


def test_a_stream_goes_from_page_to_page_and_closes_what_it_left(db: Database) -> None:
    table = db.create_table("t", {"n": "int"})
    table.insert([{"id": f"{i:04}", "n": i} for i in range(2_500)])
    rows = table.select("n").stream()
    assert [next(rows).n for _ in range(1_200)] == list(range(1_200))
    rows.close()  # type: ignore[attr-defined]
    assert [row.n for row in table.select("n").stream()] == list(range(2_500))


def test_a_plan_speaks_of_a_filter_only_where_there_is_one(db: Database) -> None:
    table = db.create_table("t", {"title": "string"})
    table.add_embedding_column("meaning", source="title")
    table.insert({"id": "a", "title": "tea"})
    assert "matching" not in repr(table.similar("tea").explain())
    assert "1 matching the filter" in repr(table.where(title="tea").similar("tea").explain())
