"""Databases for the tests of the Python API: in memory and on disk, with deterministic embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vectable import Database, Table, connect


@pytest.fixture(params=["memory", "sqlite"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = "memory:" if request.param == "memory" else str(tmp_path / "db")
    with connect(url, fake_embeddings=True) as opened:
        yield opened


LAYOUTS = [
    {
        "id": "a",
        "title": "Hooks",
        "teaches": "react hooks and state",
        "quality_score": 9,
        "language": "TypeScript",
    },
    {
        "id": "b",
        "title": "Loops",
        "teaches": "writing loops in python",
        "quality_score": 7,
        "language": "Python",
    },
    {
        "id": "c",
        "title": "Borrow",
        "teaches": "ownership and borrowing",
        "quality_score": 8,
        "language": "Rust",
    },
    {
        "id": "d",
        "title": "Context",
        "teaches": "react context and hooks",
        "quality_score": 4,
        "language": None,
    },
]


@pytest.fixture
def layouts(db: Database) -> Table:
    """Four rows with an embedding column."""
    columns = {"title": "string", "teaches": "string", "quality_score": "int", "language": "string"}
    table = db.create_table("code_layouts", columns)
    table.insert(LAYOUTS)
    table.add_embedding_column("teaches_embedding", source="teaches")
    return table
