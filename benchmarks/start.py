"""Starting: import, help, a first search from a cold shell, opening a large database."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import vectable
from benchmarks.measure import Figure, median, once
from benchmarks.search import wait_for
from benchmarks.tables import fill, vectors

_OPEN = """
import sys, time, numpy as np, vectable
query = np.load(sys.argv[2])
started = time.perf_counter()
with vectable.connect(sys.argv[1]) as database:
    hits = database.table("bench").where().similar(query, on="v").limit(10).collect()
    print(len(hits), time.perf_counter() - started)
"""


def _seconds(arguments: list[str], times: int = 5) -> float:
    def call() -> None:
        subprocess.run(arguments, check=True, capture_output=True)

    return median([once(call)[0] for _ in range(times)]) / 1000


def run() -> list[Figure]:
    """The figures."""
    program = str(Path(sys.executable).with_name("vectable"))
    bare = _seconds([sys.executable, "-c", "pass"])
    figures = [
        Figure(
            "import vectable", _seconds([sys.executable, "-c", "import vectable"]) - bare, "s", ("<=", 0.5)
        ),
        Figure(
            "import and first use of its names",
            _seconds(
                [
                    sys.executable,
                    "-c",
                    "from vectable import connect, errors; from vectable.blocking import Table",
                ]
            )
            - bare,
            "s",
            ("<=", 0.5),
        ),
        Figure(
            "vectable --help", _seconds([program, "--help"]), "s", ("<=", 0.3), f"bare Python: {bare:.3f} s"
        ),
    ]
    with tempfile.TemporaryDirectory() as directory:
        figures += [_cold_search(program, Path(directory)), *_large(Path(directory))]
    return figures


def _cold_search(program: str, directory: Path) -> Figure:
    url = str(directory / "small")
    with vectable.connect(url) as database:
        table = database.create_table("docs", {"title": "string"})
        table.add_embedding_column("emb", source="title")
        table.insert([{"title": f"text number {i}"} for i in range(100)])
    seconds = _seconds([program, "search", "docs", "a text", "--on", "emb", "--db", url])
    return Figure("vectable search from a cold shell", seconds, "s", ("<=", 2.0), "model load included")


def _large(directory: Path) -> list[Figure]:
    import numpy as np

    url = directory / "large"
    matrix, queries = vectors(100_000)
    with vectable.connect(url, synchronous="normal") as database:
        wait_for(fill(database, "bench", matrix), queries, "fast-scan")
    np.save(directory / "query.npy", queries[0])
    script = [sys.executable, "-c", _OPEN, str(url), str(directory / "query.npy")]

    def answer() -> float:
        return float(subprocess.run(script, check=True, capture_output=True, text=True).stdout.split()[1])

    warm = median([answer() for _ in range(5)])
    for file in (url / "indexes").rglob("*"):
        if file.is_file():
            file.unlink()
    return [
        Figure("open 100k rows and answer", warm, "s", ("<=", 1.0), "derived files there"),
        Figure(
            "open 100k rows and answer, files gone", answer(), "s", ("<=", 1.0), "matrix read from SQLite"
        ),
    ]
