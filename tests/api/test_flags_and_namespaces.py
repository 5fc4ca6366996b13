"""What a table is told once and keeps to: its namespace and key, its columns' metric, cache, auto_update."""

from __future__ import annotations

import pytest

from vectable import Database, connect
from vectable.errors import AlreadyExists, TableNotFound

ROWS = [{"id": "a", "title": "green tea"}, {"id": "b", "title": "black tea"}]


def test_one_name_in_two_namespaces_is_two_tables(db: Database) -> None:
    here = db.create_table("books", {"title": "string"})
    there = db.create_table("shop.books", {"title": "string", "price": "float"})
    there.insert({"id": "a", "title": "sold", "price": 3.5})
    assert (here.full_name, there.full_name) == ("books", "shop.books")
    assert (here.count(), there.count(), db.table("main.books").count()) == (0, 1, 0)
    assert [t.full_name for t in db.tables("shop")] == ["shop.books"]
    with pytest.raises(AlreadyExists):
        db.create_table("main.books", {"title": "string"})
    with pytest.raises(AlreadyExists):
        there.rename("books")
    there.rename("archive.books")
    assert (db.table("archive.books").get("a").price, db.tables("shop")) == (3.5, [])
    with pytest.raises(TableNotFound, match=r"archive\.books"):
        db.table("shop.books")
    db.drop_table("archive.books")
    assert [t.full_name for t in db.tables()] == ["books"]


def test_a_key_of_several_parts_in_search_pages_and_writes(db: Database) -> None:
    columns = {"year": "int", "code": "string", "v": {"type": "vector", "dimensions": 2}}
    table = db.create_table("n.t", columns, key=["year", "code"])
    keys = [(2, "b"), (-1, "é"), (2, "B"), (-1, ""), (10, "a")]
    table.insert([{"year": y, "code": c, "v": [1, 0]} for y, c in keys])
    expected = [(-1, ""), (-1, "é"), (2, "B"), (2, "b"), (10, "a")]
    assert [(r.year, r.code) for r in table.select("*").collect()] == expected
    query, found, cursor = table.similar([1, 0], on="v").limit(2), [], None
    while True:
        page = (query if cursor is None else query.cursor(cursor)).collect()
        found += [(r.year, r.code) for r in page]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == expected, "equal scores go by the key, part by part, numbers by value"
    assert table.upsert({"year": 2, "code": "B", "v": [0, 1]}).replaced == 1
    assert table.similar([0, 1], on="v").limit(1).collect()[0].code == "B"
    assert table.delete((table.year == 2) & (table.code == "b")) == 1
    assert table.count() == 4


def test_a_column_without_cache_neither_reads_nor_writes_it(db: Database) -> None:
    table = db.create_table("t", {"title": "string"})
    table.add_embedding_column("emb", source="title", cache=False)
    table.insert(ROWS)
    assert table.states("emb")["ready"] == 2
    assert db.status()["cache"]["persistent"]["size"] == 0
    db.embed([row["title"] for row in ROWS])
    hits = db.status()["cache"]["memory"]["hits"]
    table.update(table.id == "a", {"title": "black tea"})
    assert db.status()["cache"]["memory"]["hits"] == hits
    assert db.status()["cache"]["persistent"]["size"] == 2
    assert [round(hit.score, 6) for hit in table.similar("black tea", on="emb").collect()] == [1.0, 1.0]


def test_without_auto_update_what_is_outdated_is_served_and_counted(db: Database) -> None:
    table = db.create_table("t", {"title": "string"})
    table.insert(ROWS)
    table.add_embedding_column("emb", source="title", auto_update=False)
    table.add_embedding_column("true", source="title")
    table.update(table.id == "a", {"title": "parsing json"})
    table.insert({"id": "c", "title": "newer"})
    assert {s: n for s, n in table.states("emb").items() if n} == {"ready": 1, "stale": 1, "new": 1}
    assert table.states("true")["ready"] == 3
    hits = table.similar("green tea", on="emb").collect()
    assert (hits[0].id, round(hits[0].score, 6), hits[0].title) == ("a", 1.0, "parsing json")
    assert {hit.id for hit in hits} == {"a", "b"}
    assert table.similar("green tea", on="true", threshold=0.99).collect().to_dicts() == []
    table.refresh("emb")
    assert table.states("emb")["ready"] == 3


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("cosine", "cosine"),
        ("dot", "inner_product"),
        ("dot_product", "inner_product"),
        ("euclidean", "euclidean"),
    ],
)
def test_metrics_and_their_aliases(db: Database, written: str, meant: str) -> None:
    table = db.create_table(
        "t", {"title": "string", "v": {"type": "vector", "dimensions": 2, "metric": written}}
    )
    table.add_embedding_column("emb", source="title", metric=written)
    columns = table.describe()["columns"]
    assert (columns["v"]["metric"], columns["emb"]["metric"]) == (meant, meant)
    table.insert([{"id": "a", "v": [3, 4]}, {"id": "b", "v": [3, 0]}])
    scores = {"cosine": (0.6, 1.0), "inner_product": (9.0, 9.0), "euclidean": (0.2, 1.0)}[meant]
    hits = table.similar([3, 0], on="v").collect()
    assert {h.id: h.score for h in hits} == pytest.approx(dict(zip("ab", scores, strict=True)))


@pytest.mark.parametrize("setting", [0, 3])
def test_how_many_cells_are_embedded_within_a_write_is_a_setting(setting: int) -> None:
    with connect("memory:", fake_embeddings=True, inline_cells=setting) as db:
        table = db.create_table("t", {"title": "string"})
        table.add_embedding_column("emb", source="title")
        if setting:
            assert table.insert([{"title": f"{i}"} for i in range(setting)], wait=False).job is None
        more = table.insert([{"title": f"more {i}"} for i in range(setting + 1)], wait=False)
        assert more.job is not None and more.pending == setting + 1
        job = db.wait(more.job)
        assert (job.status, job.done, job.total) == ("done", setting + 1, setting + 1)
        assert table.states("emb")["ready"] == 2 * setting + 1
