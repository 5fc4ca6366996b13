"""A table, synchronous: the same methods, which wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from vectable.blocking.mirror import mirrors
from vectable.blocking.query import TableQuery
from vectable.core.predicate import split_name
from vectable.core.query import Query
from vectable.core.rows import OnConflict
from vectable.core.schema import Table as Definition
from vectable.handles.chain import Chain
from vectable.handles.columns import Columns
from vectable.handles.outcomes import Filled, InsertResult
from vectable.handles.result import Result, Row
from vectable.handles.table import EVERYTHING, AsyncTable

if TYPE_CHECKING:
    from vectable.blocking.database import Database
    from vectable.engine.search.proved import Begin

T = TypeVar("T")


@mirrors(AsyncTable)
class Table(Columns, Chain[TableQuery]):
    """A table by name. Columns are attributes (`t.stars >= 5`, or `t["stars"]`); a method wins over a
    column of the same name. Queries begin here: `t.where(…)`, `t.similar(…)`, `t.select(…)`."""

    def __init__(self, database: Database, table: AsyncTable) -> None:
        self._database = database
        self._table = table

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._database._loop.run(work)

    def _here_or_run(
        self, here: Callable[[Begin], T | None], there: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        self._database._loop.check()
        found = here(self._database._loop.begin)
        return self._run(there()) if found is None else found

    def _iterate(self, source: Callable[[], AsyncIterator[T]]) -> Generator[T, None, None]:
        return self._database._loop.iterate(source)

    @property
    def definition(self) -> Definition:
        return self._table.definition

    @property
    def full_name(self) -> str:
        return self._table.full_name

    def _spec(self) -> Query:
        return EVERYTHING

    def _derive(self, query: Query) -> TableQuery:
        return TableQuery(self, query)

    def _seen(self, name: str) -> bool:
        # Somebody else may have added the column since, and here it costs nothing to look.
        return super()._seen(name) or any(c.name == split_name(name)[0] for c in self.reload().columns)

    def reload(self) -> Definition:
        return self._run(self._table.reload())

    def describe(self) -> dict[str, Any]:
        return self._run(self._table.describe())

    def insert(self, rows: Any, *, on_conflict: OnConflict = "error", wait: bool = True) -> InsertResult:
        return self._run(self._table.insert(rows, on_conflict=on_conflict, wait=wait))

    def upsert(self, rows: Any, *, wait: bool = True) -> InsertResult:
        return self._run(self._table.upsert(rows, wait=wait))

    def update(self, where: Any, values: Mapping[str, Any], *, all: bool = False) -> int:
        return self._run(self._table.update(where, values, all=all))

    def delete(self, where: Any, *, all: bool = False) -> int:
        return self._run(self._table.delete(where, all=all))

    def get(self, key: Any, *, select: Sequence[str] | None = None) -> Row:
        return self._run(self._table.get(key, select=select))

    def count(self, where: Any = None) -> int:
        return self._run(self._table.count(where))

    def search(self, to: Any, *, on: str | None = None, limit: int = 10, where: Any = None) -> Result:
        return self._run(self._table.search(to, on=on, limit=limit, where=where))

    def rename(self, new: str) -> None:
        return self._run(self._table.rename(new))

    def drop(self) -> None:
        return self._run(self._table.drop())

    def add_column(self, name: str, type: str, **options: Any) -> None:
        return self._run(self._table.add_column(name, type, **options))

    def drop_column(self, name: str) -> None:
        return self._run(self._table.drop_column(name))

    def rename_column(self, old: str, new: str) -> None:
        return self._run(self._table.rename_column(old, new))

    def add_embedding_column(
        self,
        name: str,
        *,
        source: str | None = None,
        template: str | None = None,
        model: str | None = None,
        metric: str = "cosine",
        auto_update: bool = True,
        cache: bool = True,
        index: Literal["auto", "none"] = "auto",
        if_exists: Literal["error", "ok"] = "error",
        wait: bool = True,
    ) -> Filled:
        return self._run(
            self._table.add_embedding_column(
                name,
                source=source,
                template=template,
                model=model,
                metric=metric,
                auto_update=auto_update,
                cache=cache,
                index=index,
                if_exists=if_exists,
                wait=wait,
            )
        )

    def refresh(
        self,
        column: str,
        *,
        where: Any = None,
        errors_only: bool = False,
        force: bool = False,
        wait: bool = True,
    ) -> Filled:
        return self._run(
            self._table.refresh(column, where=where, errors_only=errors_only, force=force, wait=wait)
        )

    def states(self, column: str) -> dict[str, int]:
        return self._run(self._table.states(column))

    def create_index(
        self,
        column: str,
        method: str = "hnsw",
        *,
        name: str | None = None,
        wait: bool = True,
        **parameters: Any,
    ) -> dict[str, Any]:
        return self._run(self._table.create_index(column, method, name=name, wait=wait, **parameters))

    def indexes(self) -> list[dict[str, Any]]:
        return self._run(self._table.indexes())

    def drop_index(self, name: str) -> None:
        return self._run(self._table.drop_index(name))

    def __repr__(self) -> str:
        return repr(self._table).replace("AsyncTable", "Table", 1)
