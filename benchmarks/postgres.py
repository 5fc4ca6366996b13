"""PostgreSQL beside bare asyncpg and plain pgvector on one server, and beside the embedded backend."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import uvloop

import vectable
from benchmarks.measure import Figure, alternately, median, once
from benchmarks.search import wait_for
from benchmarks.tables import DIMENSIONS, QUERIES, columns_of, rows_of, truth, vectors
from vectable.blocking import Database, Table
from vectable.core.vectors import Matrix
from vectable.drivers.postgres import decode_vector, encode_vector
from vectable.drivers.postgres.server import PostgresServer
from vectable.handles.table import AsyncTable
from vectable.testing.postgres_server import temporary_server

ROWS = 100_000
K = 10
_LOADS = 7
_ROUNDS = 100
_SEARCHES = 1_000
_BLOCK = 25
_FILTERS = (("100 %", None, 1), ("10 %", "tenth", 10), ("1 %", "hundredth", 100), ("0.1 %", "stars", 1000))
"""`column = 3` keeps one row in so many."""
_SETTINGS = {"shared_buffers": "512MB", "maintenance_work_mem": "512MB", "max_wal_size": "4GB"}
_BARE = (
    "CREATE TABLE {} (id text PRIMARY KEY, title text, stars bigint, tenth bigint, hundredth bigint,"
    " language text, v vector({}))"
)
Call = Callable[[int], Any]
Rows = tuple[Matrix, Matrix]
"""Those of the table, and queries."""


class Bare:
    """One connection of asyncpg's, vectors in binary, statements prepared when they come again: as a careful
    user sets it up."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection: asyncpg.Connection = self._run(self._connect(url))

    async def _connect(self, url: str) -> asyncpg.Connection:
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        schema = await connection.fetchval(
            "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'"
        )
        await connection.execute(f"SET search_path = public, {schema}")
        await connection.set_type_codec(
            "vector", schema=schema, encoder=encode_vector, decoder=decode_vector, format="binary"
        )
        return connection

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def fetch(self, sql: str, *arguments: Any) -> list[Any]:
        """The rows of a statement."""
        return self._run(self._connection.fetch(sql, *arguments))

    def execute(self, sql: str) -> None:
        """Statements without an answer."""
        self._run(self._connection.execute(sql))

    def copy(self, name: str, rows: list[dict[str, Any]]) -> None:
        """A new table with the rows, by COPY."""
        self.execute(_BARE.format(name, DIMENSIONS))
        records = (tuple(row.values()) for row in rows)
        self._run(self._connection.copy_records_to_table(name, columns=list(rows[0]), records=records))

    def close(self) -> None:
        """Hangs up."""
        self._run(self._connection.close())
        self._loop.close()


def run() -> list[Figure]:
    """The figures."""
    matrix, queries = vectors(ROWS)
    rows = rows_of(matrix)
    with (
        temporary_server(fsync=True, **_SETTINGS) as server,
        tempfile.TemporaryDirectory() as directory,
        vectable.connect(server.url(), cache_dir=directory) as database,
        vectable.connect(server.url(), cache_dir=directory, resident_bytes=0) as unaided,
    ):
        bare = Bare(server.url())
        try:
            figures = _loads(bare, database, rows)
            bare.execute("VACUUM ANALYZE")
            figures += _overhead(bare, database, unaided, rows, queries)
            figures += _beside_embedded(server.url(), Path(directory), database, (matrix, queries))
            figures += _moved(bare, server, Path(directory))
            return figures + _filters(bare, database, unaided, matrix, queries)
        finally:
            bare.close()


def _loads(bare: Bare, database: Database, rows: list[dict[str, Any]]) -> list[Figure]:
    """Leaves the tables `bare` and `bench` behind."""

    def ours(given: Callable[[], Any]) -> float:
        database.drop_table("bench", missing_ok=True)
        table = database.create_table("bench", columns_of(np.stack([row["v"] for row in rows[:1]])))
        bare.execute("CHECKPOINT")
        return once(lambda: table.insert(given()))[0] / 1000

    def theirs() -> float:
        bare.execute("DROP TABLE IF EXISTS bare; CHECKPOINT")
        return once(lambda: bare.copy("bare", rows))[0] / 1000

    copies, calls, streams = [], [], []
    for attempt in range(_LOADS + 1):
        times = theirs(), ours(lambda: rows), ours(lambda: iter(rows))
        if attempt:  # the first warms the server up
            for kept, time in zip((copies, calls, streams), times, strict=True):
                kept.append(time)
    size = f"{len(rows):,} rows of {DIMENSIONS}"
    ratio = [c / o for c, o in zip(copies, streams, strict=True)]
    whole = [c / o for c, o in zip(copies, calls, strict=True)]
    return [
        Figure(f"load {size}: bare COPY", median(copies), "s", None, "one table, primary key, fsynced"),
        Figure(f"load {size}: insert of an iterator", median(streams), "s", None, "batches, each checked"),
        Figure("bare COPY / insert of an iterator", median(ratio), "x", (">=", 0.8), f"each: {_each(ratio)}"),
        Figure(f"load {size}: insert of a list", median(calls), "s", None, "all or nothing"),
        Figure("bare COPY / insert of a list", median(whole), "x", None, f"each: {_each(whole)}"),
    ]


def _each(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _overhead(
    bare: Bare, database: Database, unaided: Database, rows: list[dict[str, Any]], queries: Matrix
) -> list[Figure]:
    """What a call costs beyond the same query through bare asyncpg."""
    table, plain = database.table("bench"), unaided.table("bench")
    by_key = "SELECT id, title, stars FROM bare WHERE id = $1"
    page = "SELECT id, title, stars FROM bare WHERE tenth = $1 ORDER BY id LIMIT 10"
    nearest = "SELECT id, title, stars FROM bare WHERE stars = $2 ORDER BY v <=> $1 LIMIT 10"
    counted = "SELECT count(*) FROM bare WHERE hundredth = $1"
    pairs: list[tuple[str, Call, Call]] = [
        (
            "a row by its key",
            lambda i: bare.fetch(by_key, rows[i]["id"]),
            lambda i: table.get(rows[i]["id"], select=["id", "title", "stars"]),
        ),
        (
            "a page under a filter",
            lambda i: bare.fetch(page, i % 10),
            lambda i: table.where(table.tenth == i % 10).select("id", "title", "stars").limit(10).collect(),
        ),
        (
            "a count under a filter",
            lambda i: bare.fetch(counted, i % 100),
            lambda i: table.where(table.hundredth == i % 100).count(),
        ),
        (
            "exact search of 100 rows, in the server",
            lambda i: bare.fetch(nearest, queries[i], 3),
            lambda i: (
                plain.where(plain.stars == 3)
                .similar(queries[i], on="v")
                .select("id", "title", "stars")
                .limit(10)
                .collect()
            ),
        ),
    ]
    figures = []
    for what, theirs, ours in pairs:
        left, right = map(median, alternately([theirs, ours], _ROUNDS))
        note = f"{right:.2f} ms, bare asyncpg {left:.2f} ms"
        figures.append(Figure(f"{what}: overhead p50", right - left, "ms", ("<=", 1.5), note))
    return figures


def _ask(table: Table | AsyncTable, queries: Matrix, column: str | None) -> Call:
    query = table.where() if column is None else table.where(**{column: 3})
    return lambda i: query.similar(queries[i % QUERIES], on="v").select("id", "title").limit(K).collect()


def _beside_embedded(url: str, directory: Path, database: Database, rows: Rows) -> list[Figure]:
    """Leaves the resident index of `bench` ready."""
    matrix, queries = rows
    table = database.table("bench")
    with vectable.connect(directory / "db", synchronous="normal") as embedded:
        local = embedded.create_table("bench", columns_of(matrix))
        local.insert(row for row in rows_of(matrix))
        wait_for(table, queries, "fast-scan")
        wait_for(local, queries, "fast-scan")
        blocking = _ratios(
            lambda *asked: (_ask(local, *asked), _ask(table, *asked)), queries, "a blocking handle"
        )
        return [*_awaited(url, directory, queries), *blocking, *_seldom(local, table, queries)]


def _awaited(url: str, directory: Path, queries: Matrix) -> list[Figure]:
    """By asynchronous handles on one loop, of the kind the server has: what it does for each request."""
    loop = uvloop.new_event_loop()

    def on_loop(call: Call) -> Call:
        return lambda i: loop.run_until_complete(call(i))

    handles = [
        loop.run_until_complete(vectable.connect_async(place, synchronous="normal"))
        for place in (directory / "db", url)
    ]
    try:
        local, table = [loop.run_until_complete(each.table("bench")) for each in handles]
        wait_on = on_loop(_ask(table, queries, None))
        while wait_on(0).plan.path != "fast-scan":
            loop.run_until_complete(asyncio.sleep(0.1))
        return _ratios(
            lambda *asked: (on_loop(_ask(local, *asked)), on_loop(_ask(table, *asked))), queries, "awaited"
        )
    finally:
        for each in handles:
            loop.run_until_complete(each.close())
        loop.close()


def _ratios(
    pair: Callable[[Matrix, str | None], tuple[Call, Call]], queries: Matrix, how: str
) -> list[Figure]:
    figures = []
    for share, column, _ in _FILTERS:
        calls = pair(queries, column)
        for call in calls:  # every query once: what they show is held from then on
            for i in range(QUERIES):
                call(i)
        here, there = map(median, alternately(calls, _SEARCHES))
        target = ("<=", 1.1) if column is None else None
        note = f"{there:.2f} ms, embedded {here:.2f} ms"
        name = f"resident search / embedded, {share} kept, {how}"
        figures.append(Figure(name, there / here, "x", target, note))  # type: ignore[arg-type]
    return figures


def _seldom(local: Table, table: Table, queries: Matrix) -> list[Figure]:
    """Searches whose hits nobody was shown before: a query comes once, for columns not asked for yet."""

    def ask(of: Table) -> Call:
        query = of.where()
        return lambda i: query.similar(queries[i], on="v").select("id", "language").limit(K).collect()

    sides: list[list[float]] = [[], []]
    for start in range(0, QUERIES, _BLOCK):
        for call, times in zip([ask(local), ask(table)], sides, strict=True):
            times += [once(partial(call, i))[0] for i in range(start, start + _BLOCK)]
    here, there = map(median, sides)
    note = f"{there:.2f} ms, embedded {here:.2f} ms: one round trip more"
    return [Figure("resident search / embedded, hits never shown before", there / here, "x", None, note)]


def _moved(bare: Bare, server: PostgresServer, directory: Path) -> list[Figure]:
    """The embedded `bench` to an empty database, and from there to a directory."""
    bare.execute("CREATE DATABASE moved")
    there = once(lambda: vectable.copy(directory / "db", server.url("moved")))[0] / 1000
    back = once(lambda: vectable.copy(server.url("moved"), directory / "back"))[0] / 1000
    note = "each row read back from both sides and compared"
    return [
        Figure(f"copy {ROWS:,} rows of {DIMENSIONS} from embedded to PostgreSQL", there, "s", None, note),
        Figure("… and back", back, "s", None, note),
    ]


def _filters(
    bare: Bare, database: Database, unaided: Database, matrix: Matrix, queries: Matrix
) -> list[Figure]:
    """Ours beside pgvector as it comes: an HNSW index, and no setting touched."""
    seconds = once(lambda: bare.execute("CREATE INDEX ON bare USING hnsw (v vector_cosine_ops)"))[0] / 1000
    bare.execute("VACUUM ANALYZE bare")
    table, plain = database.table("bench"), unaided.table("bench")
    figures = [Figure("pgvector: HNSW built", seconds, "s", None, f"{ROWS:,} rows, its defaults")]
    for share, column, every in _FILTERS:
        where = "" if column is None else f"WHERE {column} = 3"
        sql = f"SELECT id, title FROM bare {where} ORDER BY v <=> $1 LIMIT {K}"
        calls: list[Call] = [
            lambda i, sql=sql: bare.fetch(sql, queries[i]),  # type: ignore[misc]
            _ask(table, queries, column),
            _ask(plain, queries, column),
        ]
        times = [median(each) for each in alternately(calls, _ROUNDS // 2)]
        kept = None if column is None else np.arange(len(matrix)) % every == 3
        wanted = truth(matrix, queries[: _ROUNDS // 2], K, kept)
        recalls, found = zip(*(_recall(call, wanted) for call in calls), strict=True)
        for who, time, recall, hits in zip(
            ("pgvector", "resident", "in the server"), times, recalls, found, strict=True
        ):
            note = f"{time:.2f} ms, {hits:.1f} of {K} rows"
            target = (">=", 0.999) if who != "pgvector" else None
            figures.append(Figure(f"{share} kept: {who}: recall@{K}", recall, "", target, note))  # type: ignore[arg-type]
    return figures


def _recall(call: Call, wanted: list[set[int]]) -> tuple[float, float]:
    """(share of the true hits found, hits found), on average."""
    found = [{int(row["id"]) for row in call(i)} for i in range(len(wanted))]
    shares = [len(f & w) / len(w) for f, w in zip(found, wanted, strict=True)]
    return statistics.fmean(shares), statistics.fmean(map(len, found))
