"""Queries through the synchronous handles, on both embedded backends."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from vectable import Database, Row, Table
from vectable.errors import InvalidCursor, InvalidInput, InvalidVector, TableNotFound, UnknownColumn


def ids(rows: object) -> list[str]:
    return [row.id for row in rows]  # type: ignore[attr-defined]


def test_the_chain_of_the_readme(layouts: Table) -> None:
    t = layouts
    hits = (
        t.where(t.quality_score >= 8)
        .similar("react hooks and state", on="teaches_embedding")
        .select("title")
        .limit(10)
        .collect()
    )
    assert [hit.title for hit in hits] == ["Hooks", "Borrow"]
    assert hits[0].score == pytest.approx(1, abs=1e-6)
    assert hits[0].score > hits[1].score  # type: ignore[operator]
    assert dict(hits[0]) == {"title": "Hooks"}
    assert tuple(hits.coverage or ()) == (4, 4)
    assert "2 hits" in repr(hits)
    assert hits.query_vector is not None
    assert hits.query_vector.shape == (384,)


def test_filters_order_and_pages(layouts: Table) -> None:
    t = layouts
    assert ids(t.order_by("-quality_score").collect()) == ["a", "c", "b", "d"]
    assert ids(t.order_by("language", "id").collect()) == ["b", "c", "a", "d"]
    assert ids(t.where(language=None).collect()) == ["d"]
    assert ids(t.where("quality_score >= ? and language != ?", 7, "Rust").collect()) == ["a", "b"]
    assert ids(t.where(~(t.language == "Rust")).collect()) == ["a", "b", "d"]
    assert ids(t.order_by("id").limit(2).offset(1).collect()) == ["b", "c"]
    page = t.order_by("id").limit(3)
    first = page.collect()
    assert first.next_cursor is not None
    second = page.cursor(first.next_cursor).collect()
    assert ids(first) + ids(second) == ["a", "b", "c", "d"]
    assert second.next_cursor is None
    with pytest.raises(InvalidCursor):
        page.cursor("damaged").collect()


def test_first_count_and_explain(layouts: Table) -> None:
    t = layouts
    row = t.order_by("-quality_score").first()
    assert isinstance(row, Row)
    assert row.id == "a"
    assert t.where(t.quality_score > 100).first() is None
    assert t.count() == 4
    assert t.count(t.quality_score >= 8) == 2
    assert t.where(t.quality_score >= 8).limit(1).count() == 2
    assert t.similar("react hooks and state", threshold=0.999).count() == 1
    plan = t.where(t.quality_score >= 8).similar("hooks").explain()
    assert plan.exact is True
    assert plan.column == "teaches_embedding"
    assert "exact" in repr(plan)
    assert "times" in repr(plan)


def test_stream_gives_every_row_and_stops_at_a_limit(layouts: Table) -> None:
    t = layouts
    t.insert([{"id": f"n{i:05}", "quality_score": i} for i in range(2_500)])
    assert len(list(t.select("id").stream())) == 2_504
    assert len(list(t.select("id").limit(1_500).stream())) == 1_500
    assert ids(t.where(t.quality_score >= 2_490).select("id").stream()) == [
        f"n{i:05}" for i in range(2_490, 2_500)
    ]
    some = t.select("id").stream()
    assert next(some).id == "a"
    some.close()  # type: ignore[attr-defined]
    scored = list(t.similar("react hooks and state").select("id").stream())
    assert scored[0].id == "a"
    assert scored[0].score == pytest.approx(1, abs=1e-6)
    assert len(scored) == 4


def test_similar_takes_vectors_in_every_form(layouts: Table, db: Database) -> None:
    vector = db.embed("react hooks and state")
    encoded = base64.b64encode(vector.astype("<f4").tobytes()).decode()
    for to in (vector, vector.tolist(), vector.astype(np.float64), {"base64": encoded}):
        hit = layouts.similar(to).first()
        assert hit is not None
        assert (hit.id, hit.score) == ("a", pytest.approx(1, abs=1e-6))
    with pytest.raises(InvalidVector, match="384"):
        layouts.similar([1.0, 2.0]).collect()


def test_thresholds_and_exactness(layouts: Table) -> None:
    hits = layouts.similar("react hooks and state", threshold=0.999, exact=True).collect()
    assert ids(hits) == ["a"]
    assert hits.plan.exact
    assert layouts.similar("react hooks and state", threshold=1.5).collect().rows == []


def test_search_in_one_call(layouts: Table) -> None:
    hits = layouts.search("react hooks and state", limit=1)
    assert ids(hits) == ["a"]
    kept = layouts.search("react hooks and state", on="teaches_embedding", where=layouts.language == "Rust")
    assert ids(kept) == ["c"]


def test_select_everything_a_path_and_a_state(db: Database) -> None:
    t = db.create_table("things", {"meta": "json", "text": "string"})
    t.insert([{"id": "1", "meta": {"stars": 5, "tags": ["x"]}, "text": "one"}, {"id": "2"}])
    t.add_embedding_column("emb", source="text")
    rows = t.select("id", "meta.stars", "emb.state").order_by("id").collect()
    assert rows.to_dicts() == [
        {"id": "1", "meta.stars": 5, "emb.state": "ready"},
        {"id": "2", "meta.stars": None, "emb.state": "empty"},
    ]
    assert rows.to_arrow().schema.field("meta.stars").type == "int64"
    assert list(t.select("*").first() or ()) == ["id", "meta", "text"]
    assert "emb" in (t.select("*", "emb").first() or {})
    assert t.where(t.meta["stars"] >= 5).count() == 1
    assert t.where(t["meta.tags"].contains("x")).count() == 1
    assert t.where(t.emb.state == "empty").count() == 1


def test_unknown_columns_are_named_wherever_they_are(layouts: Table) -> None:
    t = layouts
    for query in (
        t.where({"column": "titel", "operator": "=", "value": "x"}),
        t.where("titel = 'x'"),
        t.select("titel"),
        t.order_by("-titel"),
    ):
        with pytest.raises(UnknownColumn, match="did you mean 'title'"):
            query.collect()


def test_exports_carry_scores(layouts: Table) -> None:
    hits = layouts.similar("react hooks and state").select("id", "teaches_embedding").collect()
    assert hits.to_pandas()["score"].tolist() == [hit.score for hit in hits]
    assert hits.to_polars()["teaches_embedding"].to_numpy().shape == (4, 384)
    assert hits.to_arrow().column_names == ["id", "teaches_embedding", "score", "distance"]


def test_a_table_dropped_meanwhile(layouts: Table, db: Database) -> None:
    query = layouts.similar("hooks")
    db.drop_table("code_layouts")
    with pytest.raises(TableNotFound):
        query.collect()


def test_given_vectors_need_no_model(db: Database) -> None:
    t = db.create_table("points", {"v": {"type": "vector", "dimensions": 2, "metric": "euclidean"}})
    t.insert([{"id": "near", "v": [1, 1]}, {"id": "far", "v": [5, 5]}, {"id": "none"}])
    hits = t.similar([0, 0]).collect()
    assert ids(hits) == ["near", "far"]
    assert hits[0].distance == pytest.approx(2**0.5)
    assert hits[0].score == pytest.approx(1 / (1 + 2**0.5))
    assert tuple(hits.coverage or ()) == (3, 2)
    with pytest.raises(InvalidInput, match="vectors given by you"):
        t.similar("text").collect()
