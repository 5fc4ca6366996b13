"""Writing: bulk insert with vectors given, and single rows, each durable when acknowledged."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import vectable
from benchmarks.measure import Figure, median, once, percentile
from benchmarks.tables import DIMENSIONS, vectors


def _rows(matrix: Any) -> list[dict[str, Any]]:
    return [{"id": f"{i:07}", "title": f"row {i}", "stars": i % 1000, "v": v} for i, v in enumerate(matrix)]


def run() -> list[Figure]:
    """The figures."""
    matrix, _ = vectors(10_000)
    columns: dict[str, Any] = {
        "title": "string",
        "stars": "int",
        "v": {"type": "vector", "dimensions": DIMENSIONS},
    }
    arrays, listed = [], []
    rows = _rows(matrix)
    as_lists = _rows(matrix.tolist())
    with tempfile.TemporaryDirectory() as directory, vectable.connect(Path(directory) / "db") as database:
        for attempt in range(5):
            table = database.create_table(f"arrays{attempt}", columns)
            arrays.append(once(lambda t=table: t.insert(rows))[0])
            table = database.create_table(f"lists{attempt}", columns)
            listed.append(once(lambda t=table: t.insert(as_lists))[0])
        single = [
            once(lambda i=i: table.insert({"id": f"s{i}", "title": "x", "v": matrix[i]}))[0]
            for i in range(200)
        ]
    return [
        Figure(
            "10,000 rows with vectors (numpy)", median(arrays) / 1000, "s", ("<=", 1.0), "one call, fsynced"
        ),
        Figure(
            "10,000 rows with vectors (lists)", median(listed) / 1000, "s", ("<=", 1.0), "one call, fsynced"
        ),
        Figure("one row p50", median(single), "ms", None, "fsynced"),
        Figure("one row p99", percentile(single, 0.99), "ms"),
    ]
