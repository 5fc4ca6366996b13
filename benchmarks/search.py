"""Library search beside bare Faiss flat, rows fetched, at 10k and 100k rows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import vectable
from benchmarks.measure import Figure, alternately, median
from benchmarks.tables import DIMENSIONS, fill, truth, vectors
from vectable.blocking import Table

K = 10


def _bare(matrix: Any, queries: Any) -> Callable[[int], Any]:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(DIMENSIONS)
    index.add(matrix)
    return lambda i: index.search(queries[i][None], K)


def _ask(table: Table, queries: Any, where: Any = None, **options: Any) -> Callable[[int], Any]:
    query = table.where(where) if where is not None else table.where()
    return lambda i: query.similar(queries[i], on="v", **options).select("title", "stars").limit(K).collect()


def _recall(table: Table, queries: Any, wanted: list[set[int]], where: Any = None) -> float:
    ask = _ask(table, queries, where)
    found = [{int(row["id"]) for row in _with_ids(ask, i, table, queries, where)} for i in range(len(wanted))]
    return float(np.mean([len(f & w) / len(w) for f, w in zip(found, wanted, strict=True)]))


def _with_ids(_: Any, i: int, table: Table, queries: Any, where: Any) -> Any:
    query = table.where(where) if where is not None else table.where()
    return query.similar(queries[i], on="v").select("id").limit(K).collect()


def run() -> list[Figure]:
    """The figures."""
    return [*_ten_thousand(), *_hundred_thousand()]


def _ten_thousand() -> list[Figure]:
    matrix, queries = vectors(10_000)
    with (
        tempfile.TemporaryDirectory() as directory,
        vectable.connect(Path(directory) / "db", synchronous="normal") as database,
    ):
        table = fill(database, "bench", matrix)
        wait_for(table, queries, "certified-scan")
        calls = [
            _bare(matrix, queries),
            _ask(table, queries),
            _ask(table, queries, table.tenth == 3),
            _ask(table, queries, table.hundredth == 3),
            _ask(table, queries, (table.tenth == 3) & (table.language == "C")),
        ]
        flat, ours, tenth, hundredth, both = (median(t) for t in alternately(calls, len(queries)))
        kept = np.arange(len(matrix)) % 10 == 3
        recall = _recall(table, queries, truth(matrix, queries, K, kept), table.tenth == 3)
        return [
            Figure("10k: bare Faiss flat p50", flat, "ms"),
            Figure("10k: search p50, rows fetched", ours, "ms", None, "about 0.5 ms wanted"),
            Figure("10k: search / bare Faiss flat", ours / flat, "x", ("<=", 2.0)),
            Figure(
                "10k: filter keeping 10 % / unfiltered", tenth / ours, "x", ("<=", 1.0), f"{tenth:.3f} ms"
            ),
            Figure(
                "10k: filter keeping 1 % / unfiltered",
                hundredth / ours,
                "x",
                ("<=", 1.0),
                f"{hundredth:.3f} ms",
            ),
            Figure("10k: two filters / unfiltered", both / ours, "x", None, f"{both:.3f} ms"),
            Figure("10k: recall@10 under 10 %", recall, "", (">=", 1.0)),
        ]


def _hundred_thousand() -> list[Figure]:
    matrix, queries = vectors(100_000)
    with (
        tempfile.TemporaryDirectory() as directory,
        vectable.connect(Path(directory) / "db", synchronous="normal") as database,
    ):
        table = fill(database, "bench", matrix)
        wait_for(table, queries, "fast-scan")
        wait_for(table, queries, "certified-scan", exact=True)
        calls = [
            _bare(matrix, queries),
            _ask(table, queries, exact=True),
            _ask(table, queries),
            _ask(table, queries, table.tenth == 3),
            _ask(table, queries, table.hundredth == 3),
        ]
        flat, exact, fast, tenth, hundredth = (median(t) for t in alternately(calls, 200))
        path = table.where().similar(queries[0], on="v").limit(K).explain().path
        recalls = {
            share: _recall(
                table,
                queries,
                truth(matrix, queries, K, np.arange(len(matrix)) % every == 3 if every else None),
                where,
            )
            for share, every, where in (
                ("all", 0, None),
                ("10 %", 10, table.tenth == 3),
                ("1 %", 100, table.hundredth == 3),
            )
        }
        return [
            Figure("100k: bare Faiss flat p50", flat, "ms"),
            Figure("100k: exact / bare Faiss flat", exact / flat, "x", ("<=", 1.2), f"{exact:.2f} ms"),
            Figure("100k: default p50", fast, "ms", ("<=", 0.8), f"path: {path}"),
            Figure("100k: bare Faiss flat / default", flat / fast, "x", (">=", 6.0)),
            Figure("100k: recall@10", recalls["all"], "", (">=", 0.999)),
            Figure(
                "100k: filter keeping 10 % / unfiltered",
                tenth / fast,
                "x",
                ("<=", 1.0),
                f"{tenth:.2f} ms",
            ),
            Figure(
                "100k: filter keeping 1 % / unfiltered",
                hundredth / fast,
                "x",
                ("<=", 1.0),
                f"{hundredth:.2f} ms",
            ),
            Figure("100k: recall@10 under 10 %", recalls["10 %"], "", (">=", 1.0)),
            Figure("100k: recall@10 under 1 %", recalls["1 %"], "", (">=", 1.0)),
        ]


def wait_for(table: Table, queries: Any, path: str, seconds: float = 60.0, **options: Any) -> None:
    """Searches until what is built in the background serves by `path` (or time is up)."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if table.where().similar(queries[0], on="v", **options).limit(K).explain().path == path:
            return
        time.sleep(0.2)
