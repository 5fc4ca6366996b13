"""A small database to search, beside the plain-Python oracle of what every search of it must answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vectable.backends.memory import MemoryBackend
from vectable.backends.postgres import PostgresBackend
from vectable.backends.sqlite import SqliteBackend
from vectable.core.cell import GIVEN, Cell
from vectable.core.context import LOCAL, Context
from vectable.core.evaluate import matches, order_key, value_of
from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.predicate import bind
from vectable.core.query import SCORE, Query, Similar
from vectable.core.rows import Delete, Put, WriteBatch
from vectable.core.schema import Column, ColumnType, Metric, Table, Version
from vectable.core.vectors import Matrix, Vector, from_bytes, scores, to_bytes
from vectable.drivers.postgres import PostgresDriver
from vectable.drivers.sqlite import SqliteDriver
from vectable.engine.resident import DEFAULT_BUDGET, Background, ResidentRegistry
from vectable.engine.search import Searcher, SearchResult
from vectable.indexes.faiss import FaissLibrary
from vectable.interfaces import Backend, SchemaChange
from vectable.testing.hostile_backend import HostileBackend
from vectable.testing.samples import text_key, vector_column

LIBRARY = FaissLibrary()
BACKENDS = ("memory", "sqlite", "hostile", "postgres")


def small_table(dimensions: int, metric: Metric = Metric.COSINE, index: str = "auto") -> Table:
    """`id`, a few filter columns, and the vectors `emb`."""
    key = Column(name="id", type=ColumnType.STRING, nullable=False)
    emb = vector_column("emb", dimensions, metric).model_copy(update={"index": index})
    columns = (
        key,
        Column(name="title", type=ColumnType.STRING),
        Column(name="bucket", type=ColumnType.INT),
        Column(name="meta", type=ColumnType.JSON),
        emb,
    )
    return Table(name="small", key=(key.id,), columns=columns)


@dataclass
class World:
    """`rows`: what is stored, by key: values and the cell of `emb`."""

    backend: Backend
    table: Table
    searcher: Searcher
    registry: ResidentRegistry
    rows: dict[KeyBytes, tuple[dict[str, Any], Cell]] = field(default_factory=dict)
    mark: Mark | None = None

    @property
    def version(self) -> Version:
        return self.table.column("emb").version

    async def write(self, puts: Sequence[Put] = (), deletes: Sequence[Delete] = ()) -> None:
        receipt = await self.backend.write(self.table, WriteBatch(self.table.generation, puts, deletes))
        self.mark = receipt.mark

    async def put(
        self, rows: Sequence[Mapping[str, Any]], vectors: Sequence[Vector | None] | Matrix | None = None
    ) -> None:
        """Rows with their vectors; None: a row whose vector is still to come."""
        puts = []
        for i, row in enumerate(rows):
            key, vector = text_key(row["id"]), None if vectors is None else vectors[i]
            if vector is None:
                puts.append(Put(key, row, {self.version.id: b"text"}))
                cell = self.rows[key][1].wanting(b"text") if key in self.rows else Cell(want=b"text")
            else:
                stored = to_bytes(vector)
                puts.append(Put(key, row, {self.version.id: GIVEN}, {self.version.id: stored}))
                cell = Cell(GIVEN, GIVEN, stored)
            stored_names = [c.name for c in self.table.stored_columns]
            self.rows[key] = ({n: row.get(n) for n in stored_names}, cell)
        await self.write(puts)

    async def delete(self, *ids: str) -> None:
        for name in ids:
            self.rows.pop(text_key(name), None)
        await self.write(deletes=[Delete(text_key(name)) for name in ids])

    def query(self, **options: Any) -> Query:
        """`threshold` and `exact` belong to `similar`, which is there unless `similar=False`."""
        similar = options.pop("similar", True)
        asked = {n: options.pop(n) for n in ("threshold", "exact") if n in options}
        if similar:
            options["similar"] = Similar(column="emb", to="", **asked)
        return Query(**options)

    async def search(self, vector: Vector | None, context: Context = LOCAL, **options: Any) -> SearchResult:
        query = self.query(similar=vector is not None, **options)
        return await self.searcher.run(self.table, query, context, vector=vector, at_least=self.mark)

    def matching(self, vector: Vector | None, where: Any = None, threshold: float | None = None) -> list[Any]:
        """(key, values, score or None) of every row that matches, in key order."""
        bound = bind(Query(where=where).predicate, self.table)
        found = []
        for key, (values, cell) in sorted(self.rows.items()):
            if not matches(bound, {**values, "emb": cell.vector, "emb.state": cell.state}):
                continue
            if vector is None:
                found.append((key, values, None))
            elif cell.vector is not None and cell.servable(False):
                score = float(scores(vector, from_bytes(cell.vector)[None], self.version.metric)[0])
                if threshold is None or score >= threshold:
                    found.append((key, values, score))
        return found

    def expected(self, vector: Vector | None, **options: Any) -> list[tuple[KeyBytes, float | None]]:
        """(key, score) of the page that `search` with the same options must give."""
        found = self.matching(vector, options.get("where"), options.get("threshold"))
        order = Query(order_by=options.get("order_by", ())).order_by
        if vector is not None and not order:
            order = Query(order_by="-score").order_by

        def rank(row: Any) -> Any:
            key, values, score = row
            terms = [score if t.column == SCORE else value_of(t.column, values) for t in order]
            return order_key(terms, order, key)

        found.sort(key=rank)
        start = options.get("offset", 0)
        return [(key, score) for key, _, score in found[start : start + options.get("limit", 100)]]

    async def check(self, vector: Vector | None, **options: Any) -> SearchResult:
        """Searches, and compares keys, order, scores, rows and coverage with the oracle."""
        result = await self.search(vector, **options)
        wanted = self.expected(vector, **options)
        assert result.keys == [key for key, _ in wanted], result.plan
        if vector is not None:
            assert result.scores == [score for _, score in wanted]
            servable = sum(c.vector is not None and c.servable(False) for _, c in self.rows.values())
            assert result.coverage == (len(self.rows), servable)
        if options.get("select") is None:
            assert result.rows == [self.rows[key][0] for key, _ in wanted]
        return result

    def settle(self) -> None:
        """Waits until the background worker has nothing left to do."""
        assert self.registry.background.drain()


@asynccontextmanager
async def opened_backend(kind: str, directory: Path, server: str | None = None) -> AsyncIterator[Backend]:
    """An open backend of that kind; "postgres" wants the address of its database in `server`."""
    backend: Backend
    if kind == "postgres":
        assert server is not None
        backend = PostgresBackend(PostgresDriver(server, pool_least=1))
    elif kind == "sqlite":
        backend = SqliteBackend(SqliteDriver(directory))
    else:
        backend = MemoryBackend() if kind == "memory" else HostileBackend()
    await backend.open()
    try:
        yield backend
    finally:
        await backend.close()


@asynccontextmanager
async def opened(
    kind: str,
    directory: Path,
    table: Table,
    *,
    budget: int = DEFAULT_BUDGET,
    files: bool = False,
    server: str | None = None,
) -> AsyncIterator[World]:
    """A world over a backend of that kind; with `files`, derived files go to `directory`/indexes. What it
    makes in a `server` is gone afterwards."""
    async with opened_backend(kind, directory, server) as backend:
        await backend.alter(table, SchemaChange("create_table"))
        async with searching(backend, table, directory if files else None, budget=budget) as world:
            yield world
        if server is not None:
            await backend.alter(table, SchemaChange("drop_table"))


@asynccontextmanager
async def searching(
    backend: Backend, table: Table, directory: Path | None, *, budget: int = DEFAULT_BUDGET
) -> AsyncIterator[World]:
    """A world over an open backend that has the table."""
    registry = ResidentRegistry(LIBRARY, budget, Background(settle=0.0))
    with ThreadPoolExecutor(2) as pool:
        searcher = Searcher(
            "database",
            backend,
            registry,
            directory=None if directory is None else directory / "indexes",
            pool=pool,
        )
        try:
            yield World(backend, table, searcher, registry)
        finally:
            await searcher.close()
            registry.close()


def unit(matrix: Matrix) -> Matrix:
    """Rows of length 1."""
    scaled: Matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return scaled
