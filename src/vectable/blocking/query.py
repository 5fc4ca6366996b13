"""A query on a table, synchronous: the same verbs, which wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from vectable.blocking.mirror import mirrors
from vectable.core.query import Query
from vectable.core.schema import Table as Definition
from vectable.handles.chain import Chain
from vectable.handles.outcomes import Explained
from vectable.handles.query import AsyncTableQuery
from vectable.handles.result import Result, Row

if TYPE_CHECKING:
    from vectable.blocking.table import Table


@mirrors(AsyncTableQuery)
class TableQuery(Chain["TableQuery"]):
    """An immutable request, built in steps and run by its verbs, as often as you like."""

    __slots__ = ("_query", "_table")

    def __init__(self, table: Table, request: Query) -> None:
        self._table = table
        self._query = AsyncTableQuery(table._table, request)

    @property
    def definition(self) -> Definition:
        return self._query.definition

    @property
    def request(self) -> Query:
        return self._query.request

    def _spec(self) -> Query:
        return self._query.request

    def _derive(self, query: Query) -> TableQuery:
        return TableQuery(self._table, query)

    def collect(self) -> Result:
        return self._table._here_or_run(self._query._collect_here, self._query.collect)

    def first(self) -> Row | None:
        return next(iter(self.limit(1).collect()), None)

    def stream(self) -> Iterator[Row]:
        # Page by page: a row by itself is not worth a switch to the loop's thread and back.
        with closing(self._table._iterate(self._query._pages)) as pages:
            for page in pages:
                yield from page

    def count(self) -> int:
        return self._table._run(self._query.count())

    def explain(self, *, backend_plan: bool = False) -> Explained:
        return self._table._run(self._query.explain(backend_plan=backend_plan))

    def __repr__(self) -> str:
        return repr(self._query).replace("AsyncTableQuery", "TableQuery", 1)
