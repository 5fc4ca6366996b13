"""Fake embeddings: hashing in place of every model, under an identity of its own, by either variable."""

from __future__ import annotations

from pathlib import Path

import pytest

import vectable
from vectable.errors import ModelMismatch

VARIABLES = ["VECTABLE_FAKE_EMBEDDINGS", "APP_USE_FAKE_EMBEDDINGS"]


@pytest.fixture(autouse=True)
def _neither_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("variable", VARIABLES)
def test_either_variable_puts_hashing_in_place_of_every_model(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    with vectable.connect(tmp_path / "db") as db:
        table = db.create_table("t", {"title": "string"})
        table.insert([{"id": "a", "title": "brewing green tea"}, {"id": "b", "title": "parsing json"}])
        small = table.add_embedding_column("small", source="title")
        large = table.add_embedding_column("large", source="title", model="BAAI/bge-large-en-v1.5")
        assert (small.dimensions, large.dimensions) == (384, 1_024)
        assert {card.runtime for card in db.models()} == {"hashing"}
        hits = table.similar("brewing green tea", on="large").collect()
        assert (hits[0].id, round(hits[0].score, 6)) == ("a", 1.0)


def test_vectors_of_a_stand_in_and_of_its_model_never_meet(tmp_path: Path) -> None:
    with vectable.connect(tmp_path / "db", fake_embeddings=True) as db:
        table = db.create_table("t", {"title": "string"})
        table.insert([{"id": "a", "title": "brewing green tea"}])
        table.add_embedding_column("emb", source="title")
        fake = db.embed("brewing green tea")
    with vectable.connect(tmp_path / "db", fake_embeddings=False) as db:
        table = db.table("t")
        with pytest.raises(ModelMismatch, match="hashing"):
            table.similar("brewing green tea", on="emb").collect()
        result = table.insert([{"id": "b", "title": "parsing json"}])
        assert (result.inserted, result.pending) == (1, 1), "the row is kept, and waits for its own model"
        assert table.states("emb")["ready"] == 1
        real = db.embed("brewing green tea")
        assert not (real == fake).all(), "nor does the cache give one for the other"
        assert table.similar(fake, on="emb").collect()[0].id == "a", "a vector needs no model"
    with vectable.connect(tmp_path / "db", fake_embeddings=True) as db:
        table = db.table("t")
        table.insert([{"id": "c", "title": "a third"}])
        table.refresh("emb")
        assert table.states("emb")["ready"] == 3, "what waited is filled by who can"
