"""The tables the suites measure: real text embeddings, with columns that keep 10 % and 1 % of the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import vectable
from benchmarks.texts import phrases
from vectable.blocking import Database, Table
from vectable.core.vectors import Matrix

DIMENSIONS = 384
QUERIES = 200
MOST = 100_000 + QUERIES


def vectors(rows: int) -> tuple[Matrix, Matrix]:
    """(rows, queries): embeddings of different phrases from docstrings and comments, by the default model.
    Made once (minutes) and kept in benchmarks/.vectors."""
    file = Path(__file__).parent / ".vectors" / f"{MOST}.npy"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        print(f"(embedding {MOST:,} phrases into {file.parent.name}, once)", flush=True)
        shuffled = np.random.default_rng(7).permutation(_embedded(phrases(MOST)))
        np.save(file, shuffled)
    made = np.ascontiguousarray(np.load(file), dtype=np.float32)
    if len(made) < rows + QUERIES:
        raise SystemExit(f"only {len(made):,} phrases were found here, {rows + QUERIES:,} are needed")
    return made[:rows], made[-QUERIES:]


def _embedded(texts: list[str]) -> Matrix:
    with vectable.connect("memory:", cache_max_size=0) as database:
        parts = [database.embed(texts[at : at + 5_000]) for at in range(0, len(texts), 5_000)]
    return np.concatenate(parts)


def columns_of(matrix: Matrix) -> dict[str, Any]:
    """The columns of `rows_of`, as `create_table` takes them."""
    return {
        "title": "string",
        "stars": "int",
        "tenth": "int",
        "hundredth": "int",
        "language": "string",
        "v": {"type": "vector", "dimensions": matrix.shape[1]},
    }


def rows_of(matrix: Matrix, start: int = 0, end: int | None = None) -> list[dict[str, Any]]:
    """Rows with the given vectors; `tenth` and `hundredth` tell every tenth and hundredth row from the
    others, `stars` every thousandth."""
    languages = ["Python", "TypeScript", "Go", "Rust", "C"]
    return [
        {
            "id": f"{i:07}",
            "title": f"row {i}",
            "stars": i % 1000,
            "tenth": i % 10,
            "hundredth": i % 100,
            "language": languages[i % 5],
            "v": matrix[i],
        }
        for i in range(start, len(matrix) if end is None else min(end, len(matrix)))
    ]


def fill(database: Database, name: str, matrix: Matrix) -> Table:
    """A table of `rows_of` the matrix."""
    table = database.create_table(name, columns_of(matrix))
    for start in range(0, len(matrix), 10_000):
        table.insert(rows_of(matrix, start, start + 10_000))
    return table


def truth(
    matrix: Matrix, queries: Matrix, k: int, keep: np.ndarray[Any, Any] | None = None
) -> list[set[int]]:
    """Positions of the k nearest by cosine, for each query, among the rows kept."""
    positions = np.arange(len(matrix)) if keep is None else np.flatnonzero(keep)
    scores = queries @ matrix[positions].T
    return [set(positions[np.argsort(-row, kind="stable")[:k]].tolist()) for row in scores]


def database_size(directory: Path) -> int:
    """Bytes of every file below."""
    return sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())
