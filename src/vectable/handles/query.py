"""A query on a table, asynchronous."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from vectable.core.query import Query
from vectable.core.schema import Table
from vectable.handles.chain import Chain
from vectable.handles.outcomes import Explained
from vectable.handles.result import Coverage, Result, Row

if TYPE_CHECKING:
    from vectable.engine.read import Result as EngineResult
    from vectable.engine.search.proved import Begin
    from vectable.handles.table import AsyncTable


class AsyncTableQuery(Chain["AsyncTableQuery"]):
    """An immutable request, built in steps and run by its verbs, as often as you like."""

    __slots__ = ("_request", "_table")

    def __init__(self, table: AsyncTable, request: Query) -> None:
        self._table = table
        self._request = request

    @property
    def definition(self) -> Table:
        """The table's definition, as this database handle last saw it."""
        return self._table.definition

    @property
    def request(self) -> Query:
        """The request as data: the body `/query` takes."""
        return self._request

    def _spec(self) -> Query:
        return self._request

    def _derive(self, query: Query) -> AsyncTableQuery:
        return AsyncTableQuery(self._table, query)

    async def collect(self) -> Result:
        """The rows, at most `limit`: always min(limit, matching), in order. Raises UnknownColumn,
        InvalidFilter, InvalidVector, ModelMismatch, CursorExpired, TableNotFound."""
        database = self._table._database
        found = await database.engine.reader.query(database.context, self._table.full_name, self._request)
        return result_of(found, self.definition, self._request)

    def _collect_here(self, begin: Begin) -> Result | None:
        """`collect` on the calling thread, without the two hops to the loop and its pool, which cost as
        much as a small search; None where only the loop can answer. `begin` starts what it must do."""
        database = self._table._database
        reader = database._anywhere.reader
        found = reader.query_here(database.context, self._table.full_name, self._request, begin)
        return None if found is None else result_of(found, self.definition, self._request)

    async def first(self) -> Row | None:
        """The first row; None where nothing matches."""
        return next(iter(await self.limit(1).collect()), None)

    async def stream(self) -> AsyncIterator[Row]:
        """Every matching row one after the other, fetched page by page, never all in memory. `limit`, where
        given, is where it ends."""
        async with aclosing(self._pages()) as pages:
            async for page in pages:
                for row in page:
                    yield row

    async def _pages(self) -> AsyncGenerator[Result, None]:
        database = self._table._database
        pages = database.engine.reader.stream(database.context, self._table.full_name, self._request)
        async with aclosing(cast("AsyncGenerator[EngineResult, None]", pages)) as closing:
            async for page in closing:
                yield result_of(page, self.definition, self._request)

    async def count(self) -> int:
        """How many rows match, whatever `limit` says; of a similarity query those that can be found."""
        database = self._table._database
        return await database.engine.reader.count(database.context, self._table.full_name, self._request)

    async def explain(self, *, backend_plan: bool = False) -> Explained:
        """Runs it, and tells the path taken, why, rows examined, and times; with `backend_plan`, also what
        PostgreSQL's EXPLAIN says of it, where it is PostgreSQL that searches for the nearest."""
        database, name = self._table._database, self._table.full_name
        return Explained(
            await database.engine.reader.explain(
                database.context, name, self._request, backend_plan=backend_plan
            )
        )

    def __repr__(self) -> str:
        shown = self._request.model_dump(mode="json", exclude_defaults=True, fallback=lambda value: "…")
        return f"{type(self).__name__}({self.definition.full_name!r}, {shown})"


def result_of(found: EngineResult, definition: Table, request: Query) -> Result:
    """The engine's answer, printable."""
    return Result(
        table=definition,
        rows=found.rows,
        plan=found.plan,
        scores=found.scores,
        distances=found.distances,
        make_cursor=lambda: found.next_cursor,
        coverage=None if found.coverage is None else Coverage(*found.coverage),
        query_vector=found.query_vector,
        select=request.select,
    )
