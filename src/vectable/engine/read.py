"""Reading: queries with what they look for turned into a vector, single rows, counts, plans."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from vectable.core.context import Context
from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.meter import UNMETERED, Meter
from vectable.core.plan import Plan
from vectable.core.query import Query, Similar
from vectable.core.rows import RecordBatch, Row
from vectable.core.schema import Table
from vectable.core.values import check_image, check_text
from vectable.core.vectors import Vector, check_vector
from vectable.engine.catalog import Catalog
from vectable.engine.embed import Embedder
from vectable.engine.row import RowByKey
from vectable.engine.search import Searcher, SearchResult, drive
from vectable.engine.search.proved import Begin
from vectable.errors import (
    Conflict,
    InvalidInput,
    MarkExpired,
    ModelMismatch,
    NotFound,
    StaleGeneration,
    Unsupported,
)
from vectable.interfaces import Backend, Item, Noted

T = TypeVar("T")
_ATTEMPTS = 20
_REFUSALS = (InvalidInput, NotFound, Conflict, Unsupported)
Unchanged = Callable[[Table, Query, Context, Vector | None, Noted], Awaitable[SearchResult | None]]
"""A way to search by what is held: see `Searcher.unchanged`."""


@dataclass(frozen=True, slots=True)
class Result:
    """Rows in their final order. `scores` and `distances` are None without similarity; `coverage` is (rows,
    searchable rows); `query_vector` is float32[dimensions], as it was compared."""

    rows: list[Row]
    keys: list[KeyBytes]
    scores: list[float] | None
    distances: list[float] | None
    plan: Plan
    coverage: tuple[int, int]
    query_vector: Vector | None
    make_cursor: Callable[[], str | None]

    @property
    def next_cursor(self) -> str | None:
        """Continues behind the last row; None when there are no more. Made when asked for: few ask."""
        return self.make_cursor()


class Reader:
    """Answers queries. Belongs to one event loop."""

    def __init__(
        self,
        backend: Backend,
        catalog: Catalog,
        embedder: Embedder,
        searcher: Searcher,
        marks: Mapping[str, Mark],
        *,
        beside: bool = False,
        meter: Meter = UNMETERED,
    ) -> None:
        self._backend = backend
        self._catalog = catalog
        self._embedder = embedder
        self._searcher = searcher
        self._marks = marks
        self._proves = beside and backend.capabilities.proves_unchanged
        self._direct = beside and backend.capabilities.reads_directly
        self._meter = meter

    async def query(self, context: Context, name: str, query: Query, *, backend_plan: bool = False) -> Result:
        """The rows a query means; `backend_plan` as in `explain`. Raises TableNotFound, UnknownColumn,
        InvalidInput and its kinds."""
        started = time.perf_counter()
        vectors: dict[str, Vector] = {}
        if not backend_plan:
            unchanged = await self._unchanged(
                context, name, query, started, self._searcher.unchanged, vectors
            )
            if unchanged is not None:
                return unchanged

        async def read(table: Table) -> Result:
            began = time.perf_counter()
            vector = await self._wanted(table, query, vectors)
            embedded = time.perf_counter()
            at_least = self._marks.get(table.id)
            found = await self._searcher.run(
                table, query, context, vector=vector, at_least=at_least, backend_plan=backend_plan
            )
            return self._timed(found, vector, started, began, embedded)

        return await self._current(context, name, read)

    async def _unchanged(
        self,
        context: Context,
        name: str,
        query: Query,
        started: float,
        search: Unchanged,
        vectors: dict[str, Vector],
    ) -> Result | None:
        """The answer by what is held of definitions and rows, proved by the statement that fetches the rows.
        None where that is not enough."""

        async def read(table: Table, noted: Noted) -> Result | None:
            began = time.perf_counter()
            vector = await self._wanted(table, query, vectors)
            embedded = time.perf_counter()
            found = await search(table, query, context, vector, noted)
            return None if found is None else self._timed(found, vector, started, began, embedded)

        return await self._by_held(context, name, read) if query.similar is not None or self._direct else None

    async def _by_held(
        self, context: Context, name: str, read: Callable[[Table, Noted], Awaitable[T | None]]
    ) -> T | None:
        """What `read` gives for the definition held; it proves what is noted. None where nothing is held, or
        `read` refuses: another definition may say something else."""
        held = self._catalog.held(context, name) if self._proves else None
        if held is None:
            return None
        try:
            return await read(*held)
        except _REFUSALS:
            return None

    async def _wanted(self, table: Table, query: Query, vectors: dict[str, Vector]) -> Vector | None:
        """`query_vector`, made once for each version, however often the search is tried."""
        if query.similar is None:
            return None
        version = table.vector_column(query.similar.column).version.id
        if version not in vectors:
            vectors[version] = await self.query_vector(table, query.similar)
        return vectors[version]

    def _timed(
        self, found: SearchResult, vector: Vector | None, started: float, began: float, embedded: float
    ) -> Result:
        self._meter.took("search", time.perf_counter() - embedded)
        if vector is not None:
            found.plan.times_ms = {"embed": (embedded - began) * 1000, **found.plan.times_ms}
        found.plan.times_ms["total"] = (time.perf_counter() - started) * 1000
        return _result(found, vector)

    async def _current(self, context: Context, name: str, read: Callable[[Table], Awaitable[T]]) -> T:
        """What `read` gives for the current definition: anew when that changed meanwhile, or when the
        database was restored from a backup."""
        for _ in range(_ATTEMPTS):
            table = await self._catalog.get(context, name)
            try:
                return await read(table)
            except StaleGeneration:
                await asyncio.sleep(0.005)
            except MarkExpired:
                if not self._catalog.forget_mark(table):
                    raise
        raise Conflict("the table's definition kept changing", hint="try again")

    def query_here(self, context: Context, name: str, query: Query, begin: Begin) -> Result | None:
        """`query` computed on the calling thread, which is not the loop's; where the backend's reads suspend,
        `begin` starts them on the loop. None where all of it needs the loop: rows that are not held,
        something to embed, a catalogue to be read anew. Thread-safe. Raises what `query` raises."""
        if query.similar is not None and _item(query.similar.to) is not None:
            return None
        started = time.perf_counter()
        search = partial(self._searcher.unchanged_here, begin=begin)
        unchanged = drive(self._unchanged(context, name, query, started, search, {}))
        if unchanged is not None or not self._backend.capabilities.inline:
            return unchanged
        table = self._catalog.peek(context, name)
        if table is None:
            return None
        vector = None if query.similar is None else drive(self.query_vector(table, query.similar))
        at_least = self._marks.get(table.id)
        try:
            found = self._searcher.run_here(table, query, context, vector=vector, at_least=at_least)
        except (StaleGeneration, MarkExpired):
            return None
        found.plan.times_ms["total"] = (time.perf_counter() - started) * 1000
        return _result(found, vector)

    async def explain(self, context: Context, name: str, query: Query, *, backend_plan: bool = False) -> Plan:
        """How the query is answered: runs it, and tells. A scan, too, is told how many rows there are: only
        here is that worth counting them. `backend_plan`: where the database searches for the nearest, its
        own account of that (PostgreSQL's EXPLAIN) is part of the plan."""
        plan = (await self.query(context, name, query, backend_plan=backend_plan)).plan
        if plan.path != "scan":
            return plan
        total = await self.count(context, name, Query())
        matching = total if query.where is None else await self.count(context, name, Query(where=query.where))
        return plan.model_copy(update={"rows_total": total, "rows_matching": matching})

    async def count(self, context: Context, name: str, query: Query) -> int:
        """How many rows match, whatever the limit."""
        if self._direct and query.similar is None:

            async def unchanged(table: Table, noted: Noted) -> int | None:
                return await self._searcher.count_unchanged(table, query, context, noted)

            found = await self._by_held(context, name, unchanged)
            if found is not None:
                return found

        async def read(table: Table) -> int:
            vector = None if query.similar is None else await self.query_vector(table, query.similar)
            at_least = self._marks.get(table.id)
            return await self._searcher.count(table, query, context, vector=vector, at_least=at_least)

        return await self._current(context, name, read)

    async def stream(self, context: Context, name: str, query: Query) -> AsyncIterator[Result]:
        """Every matching row, a page at a time, in memory that does not grow with their number. Raises
        StaleGeneration when a column it reads is dropped on the way."""
        first, pages, vector = await self._current(context, name, partial(self._begun, context, query))
        if first is not None:
            yield _result(first, vector)
            async for page in pages:
                yield _result(page, vector)

    async def _begun(
        self, context: Context, query: Query, table: Table
    ) -> tuple[SearchResult | None, AsyncIterator[SearchResult], Vector | None]:
        """A stream that has its first page, if there is one: whatever it stands on is there."""
        vector = None if query.similar is None else await self.query_vector(table, query.similar)
        at_least = self._marks.get(table.id)
        pages = self._searcher.stream(table, query, context, vector=vector, at_least=at_least)
        return await anext(pages, None), pages, vector

    async def get_row(
        self, context: Context, name: str, key: Any, select: tuple[str, ...] | None = None
    ) -> Row:
        """The row with that key: its one part, a list of parts, or a `str` in the key's URL form; `select` as
        in a query. Raises RowNotFound, UnknownColumn, InvalidInput."""

        async def unchanged(table: Table, noted: Noted) -> Row | None:
            asked = RowByKey.of(context, table, key, select)
            batch = await self._backend.get_unchanged(table, None, *asked.wanted, noted=noted)
            return None if batch is None else asked.row(batch)

        async def current(table: Table) -> Row:
            asked = RowByKey.of(context, table, key, select)
            return asked.row(await self._stored(table, asked))

        found = await self._by_held(context, name, unchanged) if self._direct else None
        return await self._current(context, name, current) if found is None else found

    async def _stored(self, table: Table, asked: RowByKey) -> RecordBatch:
        """The row as it is now: by one statement where the backend can, else in a view."""
        if self._backend.capabilities.proves_unchanged:
            found = await self._backend.get_unchanged(table, None, *asked.wanted)
            if found is not None:
                return found
        async with self._catalog.view(table) as view:
            return await view.get(*asked.wanted)

    async def query_vector(self, table: Table, similar: Similar) -> Vector:
        """What to look for as a checked vector in the column's space. Text is always text. Raises
        InvalidInput, InvalidVector, ModelMismatch."""
        column = table.vector_column(similar.column)
        version = column.version
        item = _item(similar.to)
        if item is None:
            return check_vector(similar.to, version.dimensions, version.metric)
        if column.embedding is None:
            raise InvalidInput(
                f"column {column.name!r} holds vectors given by you: no model says what a text means there",
                hint="search it with a vector, or name an embedding column",
            )
        encoded = await self._embedder.encode(
            [item],
            column.embedding.model,
            purpose="query",
            cache=column.embedding.cache,
            normalize_vectors=version.normalized,
        )
        provider = await self._embedder.models.provider(column.embedding.model)
        if str(provider.model) != version.identity:
            raise ModelMismatch(
                f"column {column.name!r} was embedded by {version.identity}, here is {provider.model}",
                hint="use the same model, runtime and precision, or embed the column anew",
            )
        return check_vector(encoded.vectors[0], version.dimensions, version.metric)


def _item(to: Any) -> Item | None:
    """The text or image to embed; None when `to` is a vector."""
    if isinstance(to, str):
        text = check_text(to)
        if not text.strip():
            raise InvalidInput("the text to search for is empty")
        return text
    if isinstance(to, (bytes, bytearray)):
        return check_image(to)
    if isinstance(to, Mapping) and set(to) == {"image"}:
        return check_image(to["image"])
    return None


def _result(found: SearchResult, vector: Vector | None) -> Result:
    scores = found.scores
    if scores is not None and any(math.isnan(s) for s in scores):
        raise InvalidInput("a score is not a number", hint="the vectors are too large for this metric")
    return Result(
        rows=found.rows,
        keys=found.keys,
        scores=scores,
        distances=found.distances,
        plan=found.plan,
        coverage=found.coverage,
        query_vector=vector,
        make_cursor=lambda: found.next_cursor,
    )
