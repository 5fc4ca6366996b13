"""Tables through the synchronous handles, on both embedded backends."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.api.conftest import LAYOUTS
from vectable import Database, Table, connect
from vectable.core.vectors import Matrix
from vectable.errors import (
    AlreadyExists,
    Conflict,
    IndexNotFound,
    InvalidFilter,
    InvalidInput,
    InvalidRow,
    JobNotFound,
    KeyExists,
    RowNotFound,
    TableNotFound,
    UnknownColumn,
    Unsupported,
)
from vectable.interfaces import Item, Purpose
from vectable.providers.hashing import HashingProvider


def test_create_open_list_describe_rename_drop(db: Database) -> None:
    made = db.create_table(
        "notes", {"text": "string", "stars": {"type": "int", "nullable": False, "default": 0}}
    )
    assert made.full_name == "notes"
    described = made.describe()
    assert described["key"] == ["id"]
    assert described["columns"]["stars"] == {"type": "int", "nullable": False, "default": 0}
    db.create_table("other.notes", {"text": "string"})
    assert [t.full_name for t in db.tables()] == ["notes", "other.notes"]
    assert [t.full_name for t in db.tables("other")] == ["other.notes"]
    assert db.table("notes").describe()["id"] == described["id"]

    made.insert({"id": "1", "text": "kept"})
    made.rename("memos")
    assert made.full_name == "memos"
    assert made.get("1").text == "kept"
    with pytest.raises(TableNotFound):
        db.table("notes")
    assert db.rename_table("memos", "notes").count() == 1
    db.table("notes").drop()
    db.drop_table("other.notes")
    assert db.tables() == []
    db.drop_table("notes", missing_ok=True)
    with pytest.raises(TableNotFound):
        db.drop_table("notes")


def test_creating_what_exists(db: Database) -> None:
    db.create_table("notes", {"text": "string"})
    with pytest.raises(AlreadyExists):
        db.create_table("notes", {"text": "string"})
    db.create_table("notes", {"text": "string"}, if_exists="ok").insert({"text": "x"})
    assert db.table("notes").count() == 1


def test_a_misspelt_table_says_what_exists(db: Database) -> None:
    db.create_table("code_layouts", {"title": "string"})
    with pytest.raises(TableNotFound, match="did you mean 'code_layouts'"):
        db.table("code_layout")


def test_columns_come_and_go(layouts: Table, db: Database) -> None:
    layouts.add_column("stars", "int", default=3)
    assert layouts.where(layouts.stars == 3).count() == 4
    layouts.rename_column("stars", "points")
    assert layouts.get("a").points == 3
    assert not hasattr(layouts, "stars")
    layouts.drop_column("points")
    with pytest.raises(UnknownColumn):
        layouts.points  # noqa: B018
    with pytest.raises(Conflict, match="teaches_embedding"):
        layouts.drop_column("teaches")
    other = db.table("code_layouts")
    other.add_column("added_elsewhere", "bool")
    assert layouts.where(layouts.added_elsewhere == None).count() == 4  # noqa: E711


def test_insert_one_and_many(db: Database) -> None:
    table = db.create_table("notes", {"text": "string"})
    one = table.insert({"text": "first"})
    assert (one.inserted, one.pending, one.errors, one.job, len(one.ids)) == (1, 0, 0, None, 1)
    many = table.insert([{"id": "x", "text": "second"}, {"text": "third"}])
    assert many.ids[0] == "x"
    assert repr(many) == "2 rows: 2 inserted"
    assert table.insert([]).inserted == 0
    assert table.count() == 3
    assert table.get(one.ids[0]).text == "first"


def test_conflicting_keys(layouts: Table) -> None:
    with pytest.raises(KeyExists):
        layouts.insert([{"id": "new"}, LAYOUTS[0]])
    assert layouts.count() == 4
    again = [LAYOUTS[0] | {"title": "Changed"}, {"id": "e", "title": "New"}]
    skipped = layouts.insert(again, on_conflict="skip")
    assert (skipped.inserted, skipped.skipped) == (1, 1)
    assert layouts.get("a").title == "Hooks"
    replaced = layouts.upsert(again)
    assert (replaced.inserted, replaced.replaced) == (0, 2)
    assert layouts.get("a").title == "Changed"
    assert "2 replaced" in repr(replaced)


def test_bad_rows_are_named_and_nothing_lands(layouts: Table) -> None:
    with pytest.raises(InvalidRow, match="quality_score") as caught:
        layouts.insert([{"id": "e"}, {"id": "f", "quality_score": "high"}])
    assert caught.value.context["row"] == 1
    with pytest.raises(InvalidRow, match="did you mean 'title'"):
        layouts.insert({"id": "e", "titel": "x"})
    assert layouts.count() == 4


@pytest.mark.parametrize("rows", [5, None, b"bytes", 1.5])
def test_what_holds_no_rows_is_refused(layouts: Table, rows: object) -> None:
    with pytest.raises(InvalidInput):
        layouts.insert(rows)


def test_update_and_delete(layouts: Table) -> None:
    assert layouts.update(layouts.language == "Rust", {"quality_score": 10}) == 1
    assert layouts.get("c").quality_score == 10
    assert layouts.update({"column": "id", "operator": "in", "value": ["a", "b"]}, {"language": "Go"}) == 2
    assert layouts.update("quality_score < 5", {"title": "low"}) == 1
    with pytest.raises(InvalidInput):
        layouts.update(None, {"title": "x"})
    assert layouts.update(None, {"title": "all"}, all=True) == 4
    with pytest.raises(UnknownColumn):
        layouts.update(layouts.id == "a", {"titel": "x"})
    assert layouts.delete(layouts.id == "a") == 1
    with pytest.raises(InvalidInput):
        layouts.delete([])
    assert layouts.delete(None, all=True) == 3
    assert layouts.count() == 0


def test_an_update_embeds_anew_what_it_changed(layouts: Table) -> None:
    assert layouts.update(layouts.id == "c", {"teaches": "react hooks and state"}) == 1
    hits = layouts.similar("react hooks and state").limit(2).collect()
    assert {hit.id for hit in hits} == {"a", "c"}
    assert [hit.score for hit in hits] == pytest.approx([1.0, 1.0], abs=1e-6)


def test_get_by_keys_of_one_and_of_several_parts(db: Database, layouts: Table) -> None:
    row = layouts.get("a", select=["title", "teaches_embedding"])
    assert row.title == "Hooks"
    assert row.teaches_embedding.shape == (384,)
    with pytest.raises(RowNotFound):
        layouts.get("zzz")
    pairs = db.create_table("pairs", {"a": "string", "b": "int", "v": "float"}, key=["a", "b"])
    assert pairs.insert({"a": "x", "b": 1, "v": 0.5}).ids == [["x", 1]]
    assert pairs.get(("x", 1)).v == 0.5
    assert db.create_table("single", {"n": "int"}, key="n").insert({"n": 7}).ids == [7]


def test_values_of_every_type_come_back_as_they_were(db: Database) -> None:
    types = ["string", "int", "float", "bool", "timestamp", "json", "string[]", "int[]", "float[]", "image"]
    columns = {f"c{i}": type_ for i, type_ in enumerate(types)}
    columns["v"] = {"type": "vector", "dimensions": 3, "metric": "euclidean"}  # type: ignore[assignment]
    table = db.create_table("everything", columns)
    moment = dt.datetime(2026, 1, 31, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    values = ["é'\"%", -(2**63), 0.1, True, moment, {"a": [1, None, "x"]}, ["x", ""], [1], [0.5], b"\x89PNG"]
    row = {f"c{i}": value for i, value in enumerate(values)}
    table.insert([{"id": "full", **row, "v": np.array([1, 2, 3])}, {"id": "empty"}])
    assert dict(table.get("full")) == {"id": "full", **row}
    assert dict(table.get("empty")) == {"id": "empty"} | dict.fromkeys(columns.keys() - {"v"})
    assert table.get("full", select=["v"]).v.tolist() == [1, 2, 3]


def test_embedding_columns_fill_and_tell_their_states(layouts: Table) -> None:
    layouts.insert({"id": "e", "title": "nothing to embed"})
    states = layouts.states("teaches_embedding")
    assert (states["ready"], states["empty"]) == (4, 1)
    with pytest.raises(AlreadyExists):
        layouts.add_embedding_column("teaches_embedding", source="title")
    again = layouts.add_embedding_column("teaches_embedding", source="teaches", if_exists="ok")
    assert again.states == states
    both = layouts.add_embedding_column("both", template="{title}: {teaches}", metric="dot")
    assert (both.dimensions, both.matched, both.states["ready"]) == (384, 4, 4)
    assert "4 ready, 1 empty" in repr(both)
    with pytest.raises(UnknownColumn, match="did you mean 'teaches'"):
        layouts.add_embedding_column("bad", source="teach")
    with pytest.raises(InvalidInput, match="not vectors"):
        layouts.states("title")


def test_many_rows_are_embedded_by_a_job(db: Database) -> None:
    table = db.create_table("notes", {"text": "string"})
    table.add_embedding_column("meaning", source="text")
    rows = [{"id": str(i), "text": f"note number {i}"} for i in range(300)]
    waited = table.insert(rows)
    assert (waited.inserted, waited.pending, waited.errors) == (300, 0, 0)
    assert table.states("meaning")["ready"] == 300

    started = table.insert([{"text": f"other note {i}"} for i in range(300)], wait=False)
    assert started.job is not None
    assert started.pending == 300
    assert f"300 cells still to embed (job {started.job})" in repr(started)
    ended = db.wait(started.job)
    assert (ended.status, ended.done) == ("done", 300)
    assert db.job(started.job) == ended
    assert started.job in [job.id for job in db.jobs()]
    assert table.states("meaning")["ready"] == 600


def test_refresh(layouts: Table) -> None:
    nothing = layouts.refresh("teaches_embedding")
    assert (nothing.matched, nothing.states["ready"]) == (0, 4)
    forced = layouts.refresh("teaches_embedding", force=True, where=layouts.quality_score >= 8)
    assert (forced.matched, forced.states["ready"]) == (2, 4)
    assert layouts.refresh("teaches_embedding", errors_only=True).matched == 0
    with pytest.raises(InvalidInput):
        layouts.refresh("title")


def test_indexes(layouts: Table) -> None:
    made = layouts.create_index("teaches_embedding", "hnsw", m=16)
    assert (made["type"], made["method"], made["status"]) == ("vector", "hnsw", "ready")
    assert layouts.indexes() == [made]
    assert layouts.similar("react hooks and state").first().id == "a"  # type: ignore[union-attr]
    with pytest.raises(AlreadyExists):
        layouts.create_index("teaches_embedding", name=made["name"])
    with pytest.raises(InvalidInput):
        layouts.create_index("teaches_embedding", "hnsv")
    layouts.drop_index(made["name"])
    assert layouts.indexes() == []
    with pytest.raises(IndexNotFound):
        layouts.drop_index(made["name"])


def test_scalar_indexes_where_the_backend_has_them(layouts: Table, db: Database) -> None:
    if db.url == "memory:":
        with pytest.raises(Unsupported):
            layouts.create_index("language", "btree")
        return
    assert layouts.create_index("language", "btree", name="by_language")["name"] == "by_language"
    assert layouts.where(language="Rust").count() == 1


def test_embedding_texts_directly(db: Database) -> None:
    one = db.embed("react hooks")
    assert (one.shape, one.dtype) == ((384,), np.float32)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    many = db.embed(["react hooks", "loops"])
    assert many.shape == (2, 384)
    assert np.array_equal(many[0], one)
    assert db.embed([]).shape == (0, 384)
    assert any(card.id.endswith("all-MiniLM-L6-v2") for card in db.models())


def test_status_and_jobs(layouts: Table, db: Database) -> None:
    status = db.status()
    assert status["url"] == db.url
    assert status["tables"][0]["name"] == layouts.full_name
    with pytest.raises(JobNotFound):
        db.job("nothing")
    with pytest.raises(JobNotFound):
        db.cancel_job("nothing")


def test_a_closed_database_says_so(db: Database) -> None:
    table = db.create_table("notes", {"text": "string"})
    db.close()
    db.close()
    assert db.closed
    assert "closed" in repr(db)
    with pytest.raises(Unsupported, match="is closed"):
        table.count()
    with pytest.raises(Unsupported, match="is closed"):
        db.tables()


def test_settings_are_checked() -> None:
    with pytest.raises(InvalidInput, match="unknown setting"):
        connect("memory:", colour="red")


def test_what_was_written_is_there_in_the_next_session(tmp_path: Path) -> None:
    with connect(tmp_path / "db", fake_embeddings=True) as db:
        db.create_table("notes", {"text": "string"}).insert({"id": "1", "text": "kept"})
    with connect(tmp_path / "db", fake_embeddings=True) as db:
        assert db.table("notes").get("1").text == "kept"


def test_backup(tmp_path: Path) -> None:
    import vectable

    with connect(tmp_path / "db", fake_embeddings=True) as db:
        db.create_table("notes", {"text": "string"}).insert({"id": "1", "text": "kept"})
        db.backup(tmp_path / "file")
        with pytest.raises(AlreadyExists):
            db.backup(tmp_path / "file")
        db.backup(tmp_path / "file", overwrite=True)
    vectable.restore(tmp_path / "file", tmp_path / "again")
    with connect(tmp_path / "again", fake_embeddings=True) as db:
        assert db.table("notes").count() == 1


def test_databases_and_tables_show_what_they_are(layouts: Table, db: Database) -> None:
    assert repr(db) == f"Database({db.url!r})"
    assert repr(layouts).startswith("Table('code_layouts', id: string, title: string")
    query = layouts.where(layouts.quality_score >= 8).similar("hooks").limit(3)
    assert repr(query).startswith("TableQuery('code_layouts', {'where'")
    assert "'limit': 3" in repr(query)


@pytest.fixture
def broken_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that cannot embed some texts, and stops working altogether at others."""
    embed = HashingProvider.embed

    async def sometimes(self: HashingProvider, items: Sequence[Item], purpose: Purpose) -> Matrix:
        if any("worse" in str(item) for item in items):
            raise RuntimeError("the model has gone")
        if any("bad" in str(item) for item in items):
            raise InvalidInput("this text cannot be embedded")
        return await embed(self, items, purpose)

    monkeypatch.setattr(HashingProvider, "embed", sometimes)


@pytest.mark.usefixtures("broken_model")
def test_cells_that_fail_are_counted_and_tried_again(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    table = db.create_table("notes", {"text": "string"})
    table.add_embedding_column("meaning", source="text")
    first = table.insert([{"id": "0", "text": "bad"}, {"text": "good"}])
    assert (first.inserted, first.errors, first.pending) == (2, 1, 0)
    assert "1 cell could not be embedded: refresh(column, errors_only=True)" in repr(first)
    many = table.insert([{"text": f"{'bad' if i % 100 == 0 else 'good'} {i}"} for i in range(300)])
    assert (many.inserted, many.errors, many.pending, many.failure) == (300, 3, 0, None)
    assert table.states("meaning")["error"] == 4
    failed = table.where(table.meaning.state == "error").select("text", table.meaning.error).collect()
    assert [row["meaning.error"] for row in failed] == ["this text cannot be embedded"] * 4
    assert failed.to_arrow().column("meaning.error").to_pylist() == ["this text cannot be embedded"] * 4
    assert table.get("0", select=["meaning.error"])["meaning.error"] == "this text cannot be embedded"
    fine = table.where(text="good").select("meaning.error").first()
    assert fine is not None and fine["meaning.error"] is None
    with pytest.raises(UnknownColumn, match="can only be selected"):
        table.where(table.meaning.error.is_not_null()).count()
    monkeypatch.undo()
    again = table.refresh("meaning", errors_only=True)
    assert (again.matched, again.states["error"], again.states["ready"]) == (4, 0, 302)
    assert {row["meaning.error"] for row in table.select("meaning.error").limit(400).collect()} == {None}


def test_a_job_that_was_cancelled_says_so(db: Database) -> None:
    table = db.create_table("notes", {"text": "string"})
    table.insert([{"text": f"note {i}"} for i in range(2_000)])
    started = table.add_embedding_column("meaning", source="text", wait=False)
    assert started.job is not None
    assert db.cancel_job(started.job).status in ("cancelled", "done")
    rest = table.refresh("meaning")
    assert (rest.states["ready"], rest.failure) == (2_000, None)


@pytest.mark.usefixtures("broken_model")
def test_a_model_that_breaks_costs_no_row(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    table = db.create_table("notes", {"text": "string"})
    table.add_embedding_column("meaning", source="text")
    result = table.insert([{"text": f"worse {i}"} for i in range(300)])
    assert result.inserted == table.count() == 300
    assert (result.pending, result.errors) == (300, 0)
    assert "300 cells still to embed" in repr(result)
    assert "embedding stopped: the model hashing/384" in repr(result)
    monkeypatch.undo()
    assert table.refresh("meaning").states["ready"] == 300


def test_text_with_its_parameters_is_one_argument(layouts: Table) -> None:
    good = ("quality_score >= ? and language != ?", 7, "Rust")
    assert layouts.count(good) == layouts.where(good).count() == layouts.where(*good).count() == 2
    assert layouts.search("hooks", where=good).to_arrow().num_rows == 2
    assert layouts.refresh("teaches_embedding", where=good, force=True).matched == 2
    assert layouts.update(good, {"title": "Good"}) == 2
    assert layouts.count(["title = 'Good'", "quality_score = 9"]) == 1
    assert layouts.delete(("title = ?", "Good")) == 2
    with pytest.raises(InvalidFilter, match="1 `\\?` but 2 parameters"):
        layouts.delete(("title = ?", "Good", "Bad"))
