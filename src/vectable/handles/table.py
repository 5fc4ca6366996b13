"""A table, asynchronous: thin over the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Literal

from vectable.core.predicate import MAX_IN_VALUES, Field
from vectable.core.query import Query
from vectable.core.rows import OnConflict
from vectable.core.schema import SCALAR_INDEXES, Column, Table
from vectable.errors import IndexNotFound, NotFound, UnknownColumn
from vectable.handles.chain import Chain, condition_of, named
from vectable.handles.columns import Columns
from vectable.handles.outcomes import Filled, InsertResult, stopped
from vectable.handles.progress import fetching, progress
from vectable.handles.query import AsyncTableQuery
from vectable.handles.result import Result, Row
from vectable.handles.source import stream, whole

if TYPE_CHECKING:
    from vectable.handles.database import AsyncDatabase

EVERYTHING = Query()


class AsyncTable(Columns, Chain[AsyncTableQuery]):
    """A table by name. Columns are attributes (`t.stars >= 5`, or `t["stars"]`); a method wins over a
    column of the same name. Queries begin here: `t.where(…)`, `t.similar(…)`, `t.select(…)`."""

    def __init__(self, database: AsyncDatabase, definition: Table) -> None:
        self._database = database
        self._definition = definition
        self._name = definition.full_name
        database.definitions[self._name] = definition

    @property
    def definition(self) -> Table:
        """The table's definition, as this database handle last saw it."""
        return self._database.definitions.get(self._name, self._definition)

    @property
    def full_name(self) -> str:
        """ "table" in the default namespace, else "namespace.table"."""
        return self._name

    def _spec(self) -> Query:
        return EVERYTHING

    def _derive(self, query: Query) -> AsyncTableQuery:
        return AsyncTableQuery(self, query)

    def _learn(self, definition: Table) -> Table:
        self._database.definitions[self._name] = definition
        return definition

    async def reload(self) -> Table:
        """The definition as it is now, after changes by others. Raises TableNotFound."""
        engine = self._database.engine
        return self._learn(await engine.catalog.get(self._database.context, self._name))

    async def describe(self) -> dict[str, Any]:
        """name, namespace, id, key, columns, indexes, created_at: JSON-ready. Of an attached table also
        `attached`: whose rows it shows (`schema`, `table`), whether changes are `told` by triggers, and by
        embedding column the `views` that show vectors to plain SQL."""
        from vectable.engine.definitions import describe

        found = describe(await self.reload())
        if self.definition.foreign is not None:
            found["attached"] |= await self._database.engine.attacher.describe(self.definition)
        return found

    # -- rows in ---------------------------------------------------------------------------------------------

    async def insert(
        self, rows: Any, *, on_conflict: OnConflict = "error", wait: bool = True
    ) -> InsertResult:
        """Adds rows: a dict, a list or generator of dicts, anything that speaks the Arrow PyCapsule interface
        (pandas, polars, Arrow, DuckDB), or a path to a Parquet, CSV, JSONL or Arrow file.

        What has a length lands whole or not at all; what comes bit by bit (files, generators, readers)
        lands in batches, and InvalidRow then says in `context` which `row` was bad and how many were
        `inserted` before it. `on_conflict` decides for keys that exist: "error" (KeyExists), "replace",
        "skip". Up to 100 changed cells are embedded at once, more by a job: `wait` stays for it, showing
        progress; False returns with its id. Raises InvalidRow, KeyExists, TableNotFound."""
        engine, context = self._database.engine, self._database.context
        definition = await self.reload()
        given = await whole(rows, definition)
        if given is not None:
            found = await engine.writer.insert(context, self._name, given, on_conflict=on_conflict)
        else:
            label = f"insert into {self._name}"
            with progress(label) as update:
                # Closed here, on the thread that draws; else whenever the garbage collector comes by.
                async with aclosing(stream(rows, definition)) as batches:
                    found = await engine.writer.insert_stream(
                        context,
                        self._name,
                        batches,
                        on_conflict=on_conflict,
                        progress=lambda done, total: update(done, total or None),
                    )
        result = InsertResult.of(found)
        if wait and result.job is not None:
            await self._settled(result)
        return result

    async def _settled(self, result: InsertResult) -> None:
        """Waits for the insert's job; then nothing of the result is pending unless the job failed."""
        job = await self._database.wait(result.job or "", f"embed {self._name}")
        result.failure = stopped(job)
        if job.status == "done":
            result.pending = 0
            result.errors = await self._failed(result.ids)

    async def _failed(self, ids: Sequence[Any]) -> int:
        """Cells of these rows that could not be embedded; of all rows, where there are too many to name. The
        rows are written, so columns that somebody dropped meanwhile count as nothing."""
        failed = 0
        with suppress(NotFound, UnknownColumn):
            definition = await self.reload()
            key = definition.key_columns
            few = len(key) == 1 and len(ids) <= MAX_IN_VALUES
            rows = self.where(Field(key[0].name).in_(ids)) if few else self
            for column in definition.vector_columns:
                if column.embedding is not None:
                    with suppress(UnknownColumn):
                        failed += await rows.where(Field(column.name).state == "error").count()
        return failed

    async def upsert(self, rows: Any, *, wait: bool = True) -> InsertResult:
        """`insert` where rows whose key exists are replaced."""
        return await self.insert(rows, on_conflict="replace", wait=wait)

    async def update(self, where: Any, values: Mapping[str, Any], *, all: bool = False) -> int:
        """Sets `values` in every matching row; how many rows. Embeddings made from them follow. `where` is
        one condition, as `where()` takes them; text with its parameters is a tuple, ("stars >= ?", 5). An
        empty filter is refused (InvalidInput) unless `all`. Raises UnknownColumn, InvalidFilter,
        InvalidRow."""
        engine = self._database.engine
        condition = condition_of(where)
        return await engine.writer.update(self._database.context, self._name, condition, values, all=all)

    async def delete(self, where: Any, *, all: bool = False) -> int:
        """Deletes every row that matches `where`, as of `update`; how many. An empty filter is refused
        (InvalidInput) unless `all`."""
        engine = self._database.engine
        return await engine.writer.delete(self._database.context, self._name, condition_of(where), all=all)

    # -- rows out --------------------------------------------------------------------------------------------

    async def get(self, key: Any, *, select: Sequence[str] | None = None) -> Row:
        """The row with that key (a tuple or list for a key of several parts). Raises RowNotFound."""
        engine = self._database.engine
        row = await engine.reader.get_row(
            self._database.context, self._name, key, None if select is None else tuple(map(named, select))
        )
        return Row(row)

    async def count(self, where: Any = None) -> int:
        """How many rows (that match)."""
        return await (self._derive(EVERYTHING) if where is None else self.where(where)).count()

    async def search(self, to: Any, *, on: str | None = None, limit: int = 10, where: Any = None) -> Result:
        """The `limit` rows nearest to a text, image or vector: `similar`, `where`, `limit` and `collect` in
        one."""
        return await self.similar(to, on).where(where).limit(limit).collect()

    # -- the definition --------------------------------------------------------------------------------------

    async def rename(self, new: str) -> None:
        """Gives the table another name; nothing is copied. Raises AlreadyExists."""
        renamed = await self._database.rename_table(self._name, new)
        self._name = renamed.full_name

    async def drop(self) -> None:
        """Removes the table with its rows, vectors and indexes."""
        await self._database.drop_table(self._name)

    async def add_column(self, name: str, type: str, **options: Any) -> None:
        """Adds a column; rows there get its default, else null. `options`: nullable, default; of a vector
        column dimensions, metric, index. Raises AlreadyExists, InvalidInput."""
        catalog = self._database.engine.catalog
        columns = {name: {"type": type, **options}}
        self._learn(await catalog.add_columns(self._database.context, self._name, columns))

    async def drop_column(self, name: str) -> None:
        """Removes a column with its values, vectors and indexes. Raises UnknownColumn, and Conflict while an
        embedding column is made from it."""
        catalog = self._database.engine.catalog
        self._learn(await catalog.drop_columns(self._database.context, self._name, [name]))

    async def rename_column(self, old: str, new: str) -> None:
        """Gives a column another name; templates that use it follow. Raises UnknownColumn, AlreadyExists."""
        catalog = self._database.engine.catalog
        self._learn(await catalog.rename_column(self._database.context, self._name, old, new))

    # -- embeddings ------------------------------------------------------------------------------------------

    async def add_embedding_column(
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
        """Adds a column the system fills and keeps true, from column `source` or from a `template` over
        several ("{title}\\n{teaches}"). Rows already there are embedded; `wait` stays for that, showing
        progress. `model` is by default the one of the settings. `auto_update=False`: rows that come or change
        later wait for a `refresh`, and are found by their old vectors until then. `cache=False` neither reads
        nor writes the vector cache. `index="none"`: searches of the column are always exact. Raises
        InvalidInput, UnknownColumn, ModelNotFound, ModelUnavailable, AlreadyExists."""
        engine = self._database.engine
        with fetching(engine.embedder.models, model):
            definition, column, job = await engine.columns.add(
                self._database.context,
                self._name,
                name,
                source_column=source,
                template=template,
                model=model,
                metric=metric,
                auto_update=auto_update,
                cache=cache,
                index=index,
                if_exists=if_exists,
            )
        self._learn(definition)
        return await self._filled(column, job, wait)

    async def refresh(
        self,
        column: str,
        *,
        where: Any = None,
        errors_only: bool = False,
        force: bool = False,
        wait: bool = True,
    ) -> Filled:
        """Embeds cells of matching rows that are not ready; `errors_only` those that failed, `force` all,
        anew. Raises UnknownColumn, InvalidInput for a column that is not computed."""
        job, matched = await self._database.engine.refresher.refresh(
            self._database.context,
            self._name,
            named(column),
            where=condition_of(where),
            errors_only=errors_only,
            force=force,
        )
        found = (await self.reload()).vector_column(named(column))
        return await self._filled(found, job, wait, matched)

    async def _filled(
        self, column: Column, job: str | None, wait: bool, matched: int | None = None
    ) -> Filled:
        failure = None
        if wait and job is not None:
            failure = stopped(await self._database.wait(job, f"embed {self._name}.{column.name}"))
        states = await self.states(column.name)
        if matched is None:
            matched = sum(states.values()) - states.get("empty", 0) - states.get("in_progress", 0)
        model = "" if column.embedding is None else column.embedding.model
        return Filled(column.name, model, column.version.dimensions, matched, job, states, failure)

    async def states(self, column: str) -> dict[str, int]:
        """How many cells of a vector column are ready, new, stale, error, empty; `in_progress` counts those
        that wait while somebody works on them. Raises UnknownColumn, InvalidInput."""
        found = (await self.reload()).vector_column(named(column))
        return await self._database.engine.columns.states(self.definition, found)

    # -- indexes ---------------------------------------------------------------------------------------------

    async def create_index(
        self,
        column: str,
        method: str = "hnsw",
        *,
        name: str | None = None,
        wait: bool = True,
        **parameters: Any,
    ) -> dict[str, Any]:
        """An index: "hnsw", "ivfflat", "ivfpq", "flat" on a vector column (with `parameters`, e.g. m=32),
        "btree" or "hash" on another ("gin" on JSON and lists, in PostgreSQL). Returns it as `indexes` lists
        it; `wait` stays until it is ready,
        showing progress. Raises UnknownColumn, InvalidInput, AlreadyExists, Unsupported."""
        indexer, context, job = self._database.engine.indexer, self._database.context, None
        if method in SCALAR_INDEXES:
            made = await indexer.create_scalar(context, self._name, named(column), method, name)
        else:
            made, job = await indexer.create_vector(
                context, self._name, named(column), method, parameters, index_name=name
            )
        if wait and job is not None:
            await self._database.wait(job, f"index {self._name}.{named(column)}")
        await self.reload()
        for index in await self.indexes():
            if index["name"] == made.name:
                return index
        raise IndexNotFound(f"index {made.name!r} was dropped meanwhile")

    async def indexes(self) -> list[dict[str, Any]]:
        """Every index: name, type, column, status; of vector indexes method, recall, rows_covered."""
        return await self._database.engine.indexer.list(self._database.context, self._name)

    async def drop_index(self, name: str) -> None:
        """Removes an index; queries fall back to the exact or automatic path. Raises IndexNotFound."""
        await self._database.engine.indexer.drop(self._database.context, self._name, name)
        await self.reload()

    def __repr__(self) -> str:
        columns = ", ".join(f"{c.name}: {c.type.value}" for c in self.definition.columns)
        return f"{type(self).__name__}({self._name!r}, {columns})"
