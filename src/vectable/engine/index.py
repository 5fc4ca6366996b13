"""Indexes: vector indexes built as jobs, by the backend where it can and beside the resident rows where not;
scalar ones by the backend."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any, cast

from vectable.core.context import Context
from vectable.core.schema import (
    LIST_TYPES,
    SCALAR_INDEXES,
    Column,
    ColumnType,
    Index,
    Metric,
    Serving,
    Table,
    Version,
    check_name,
    new_id,
)
from vectable.engine.catalog import Catalog
from vectable.engine.jobs import Jobs
from vectable.engine.jobs import Progress as JobProgress
from vectable.engine.search import Searcher
from vectable.engine.search.by_index import MUST_FIND, builds
from vectable.engine.search.indexing import IndexBuilder
from vectable.engine.search.measure import measure
from vectable.engine.stored import stored_facts
from vectable.errors import (
    AlreadyExists,
    Conflict,
    IndexNotFound,
    InvalidInput,
    TableNotFound,
    Unsupported,
    VectableError,
    did_you_mean,
)
from vectable.interfaces import Backend, Progress, StateStore, VectorLibrary

METHODS = ("hnsw", "ivfflat", "ivfpq", "flat")


class Indexer:
    """Creates, lists and drops indexes. A vector index serves once it is built and its recall is measured."""

    def __init__(
        self,
        backend: Backend,
        state: StateStore,
        catalog: Catalog,
        searcher: Searcher,
        library: VectorLibrary,
        jobs: Jobs,
    ) -> None:
        self._backend = backend
        self._state = state
        self._catalog = catalog
        self._searcher = searcher
        self._library = library
        self._jobs = jobs
        self._measuring: dict[str, asyncio.Task[None]] = {}
        jobs.register("index", self._build_job)
        searcher.on_outgrown(self._outgrown)

    async def create_vector(
        self,
        context: Context,
        name: str,
        column_name: str,
        method: str,
        parameters: Mapping[str, Any] | None = None,
        metric: str | None = None,
        index_name: str | None = None,
    ) -> tuple[Index, str | None]:
        """A new vector index over a column's active version, and the job that builds it (None for `flat`,
        which is exact and needs no building). The same one, left unfinished by a process that is gone, is
        finished instead. Raises AlreadyExists, InvalidInput, UnknownColumn."""
        table = await self._catalog.get(context, name)
        column = table.vector_column(column_name)
        if method not in METHODS:
            raise InvalidInput(
                f"unknown index method {method!r}", hint=did_you_mean(method, METHODS, "methods")
            )
        if metric is not None and Metric.parse(metric) is not column.version.metric:
            raise InvalidInput(
                f"the column's metric is {column.version.metric.value}, not {metric}",
                hint="an index has the metric of its column",
            )
        index = Index(
            id=new_id(),
            name=index_name or _free_name(table, f"{column_name}_{method}"),
            column=column.id,
            type="vector",
            method=cast(Any, method),
            parameters=self._checked(method, dict(parameters or {}), column.version),
            version=column.version.id,
        )
        begun = await self._taken_up(table, index, index_name)
        return begun or (index, await self._add_vector(table, index))

    async def _taken_up(self, table: Table, index: Index, name: str | None) -> tuple[Index, str] | None:
        """An index like that (called `name`, if given) whose build was abandoned, and the job that goes on
        with it here."""

        def made(found: Index) -> tuple[Any, ...]:
            return found.version, found.method, found.parameters

        alike = {i.id: i for i in table.indexes if made(i) == made(index) and name in (None, i.name)}
        if alike and await self._jobs.resume({"index"}):
            for record in await self._jobs.unfinished():
                found = alike.get(record.payload.get("index", ""))
                if found is not None and self._jobs.runs(record.job.id):
                    return found, record.job.id
        return None

    def _checked(self, method: str, parameters: dict[str, Any], version: Version) -> dict[str, Any]:
        if method in self._backend.capabilities.index_kinds:
            return cast(IndexBuilder, self._backend).check_index(version, method, parameters)
        self._library.check(method, parameters, version.dimensions)
        return parameters

    async def define(self, table_id: str, index: Index) -> str | None:
        """An index as it is defined elsewhere, over this table's column and version: the job that builds it
        (None: ready). Raises AlreadyExists, Unsupported."""
        table = await self._catalog.by_id(table_id)
        if table is None:
            raise TableNotFound("the table was dropped meanwhile")
        if index.type == "vector":
            # What another backend made explicit for itself is worked out anew, and so is what was measured.
            given = {k: v for k, v in index.parameters.items() if k != "quantization"}
            version = next(v for _, v in table.versions if v.id == index.version)
            checked = self._checked(str(index.method), given, version)
            index = index.model_copy(update={"parameters": checked, "serving": None})
            return await self._add_vector(table, index)
        self._require_scalar(index.type)
        await self._add(table, index, {})
        return None

    def _require_scalar(self, type_: str) -> None:
        kinds = self._backend.capabilities.scalar_indexes
        if not kinds:
            raise Unsupported("this backend has no scalar indexes")
        if type_ not in kinds:
            raise Unsupported(f"this backend has no {type_} index", hint=f"types: {', '.join(sorted(kinds))}")

    async def _add_vector(self, table: Table, index: Index) -> str | None:
        if index.method == "flat":
            await self._add(table, index, {_key(index): json.dumps({"status": "ready", "recall": 1.0})})
            return None
        payload = {"table": table.id, "index": index.id}
        # Owed from the moment the index is there, so that a crash before the job is recorded loses nothing.
        owed, note = self._jobs.owe("index", table.full_name, payload)
        table = await self._add(table, index, {_key(index): '{"status": "building"}', owed: note.decode()})
        async with self._catalog.view(table) as view:
            total = (await view.cell_states(str(index.version))).get("ready", 0)
        return await self._jobs.start("index", table.full_name, payload, total, owed)

    async def create_scalar(
        self, context: Context, name: str, column_name: str, type_: str, index_name: str | None = None
    ) -> Index:
        """An index on a stored column, ready on return: "btree" or "hash" over single values, "gin" over JSON
        and lists. Raises Unsupported, InvalidInput."""
        table = await self._catalog.get(context, name)
        column = table.column(column_name)
        if type_ not in SCALAR_INDEXES:
            raise InvalidInput(f"unknown index type {type_!r}", hint=f"types: {', '.join(SCALAR_INDEXES)}")
        several = column.type in {*LIST_TYPES, ColumnType.JSON}
        if column.type in (ColumnType.VECTOR, ColumnType.IMAGE) or several != (type_ == "gin"):
            fitting = "none" if column.type in (ColumnType.VECTOR, ColumnType.IMAGE) else "btree, hash"
            raise InvalidInput(
                f"a {column.type.value} column cannot have a {type_} index",
                hint=f"types for it: {'gin' if several else fitting}",
            )
        self._require_scalar(type_)
        base = index_name or _free_name(table, f"{column_name}_{type_}")
        index = Index(id=new_id(), name=base, column=column.id, type=cast(Any, type_))
        await self._add(table, index, {})
        return index

    async def _add(self, table: Table, index: Index, notes: Mapping[str, str]) -> Table:
        check_name(index.name, "index")

        def indexes(current: Table) -> tuple[Index, ...]:
            if any(i.name == index.name for i in current.indexes):
                raise AlreadyExists(f"table {current.full_name!r} has an index {index.name!r} already")
            return (*current.indexes, index)

        kind: Any = "create_index" if self._stored(index) else "redefine"
        column = next(c for c in table.columns if c.id == index.column)
        return await self._catalog.change(
            table.id,
            kind,
            indexes=indexes,
            column=column,
            index=index,
            notes={key: note.encode() for key, note in notes.items()},
        )

    async def list(self, context: Context, name: str) -> list[dict[str, Any]]:
        """Every index of the table, JSON-ready, as `GET …/indexes` answers; of one that is being built, how
        far that is, too: `done` of `total` rows."""
        table = await self._catalog.get(context, name)
        records = await self._state.get([_key(i) for i in table.indexes])
        names = {c.id: c.name for c in table.columns}
        found = [_described(i, names[i.column], records.get(_key(i))) for i in table.indexes]
        if any(each["status"] == "building" for each in found):
            built = {u.payload.get("index"): u.job for u in await self._jobs.unfinished()}
            for index, each in zip(table.indexes, found, strict=True):
                job = built.get(index.id)
                if job is not None and each["status"] == "building":
                    each |= {"done": job.done, "total": job.total}
        return found

    async def drop(self, context: Context, name: str, index_name: str) -> None:
        """Removes an index; searches that used it go on without. Raises IndexNotFound."""
        table = await self._catalog.get(context, name)
        index = next((i for i in table.indexes if i.name == index_name), None)
        if index is None:
            known = [i.name for i in table.indexes]
            raise IndexNotFound(
                f"table {table.full_name!r} has no index {index_name!r}",
                hint=did_you_mean(index_name, known, "indexes"),
            )
        kind: Any = "drop_index" if self._stored(index) else "redefine"
        await self._catalog.change(
            table.id,
            kind,
            indexes=lambda t: tuple(i for i in t.indexes if i.id != index.id),
            column=_column(table, index),
            index=index,
        )
        await self._state.commit(deletes=[_key(index)])
        if not self._stored(index):
            self._searcher.drop_index(table, index)

    def _stored(self, index: Index) -> bool:
        """Whether the backend keeps it; others are kept beside the resident rows."""
        return index.type != "vector" or builds(self._backend, index)

    async def _build_job(self, payload: dict[str, Any], progress: JobProgress) -> None:
        table = await self._catalog.by_id(payload["table"])
        index = next((i for i in table.indexes if i.id == payload["index"]), None) if table else None
        if table is None or index is None:
            return

        def step(done: int, total: int) -> None:
            progress.set(done, total)
            if progress.stopped:
                raise Conflict("the build was stopped")

        try:
            facts = await self._built(table, index, step)
        except IndexNotFound:
            if await self._is_defined(table.id, index):
                raise
            return  # dropped while it was built
        except asyncio.CancelledError:
            if progress.cancelled:
                await self._record(index, {"status": "error", "error": "cancelled"})
            raise
        except VectableError as error:
            await self._record(index, {"status": "error", "error": str(error)})
            raise
        await self._record(index, facts)

    async def _built(self, table: Table, index: Index, step: Progress) -> dict[str, Any]:
        """Builds it, wherever that is, and tells what was measured of it."""
        if not builds(self._backend, index):
            recall = await self._searcher.build_index(table, index, step)
            covered = self._searcher.index_status(table, index).rows_covered
            return {"status": "ready", "recall": round(recall, 4), "rows_covered": covered}
        await cast(IndexBuilder, self._backend).build_index(table, index, step)
        column = _column(table, index)
        found = await measure(self._backend, table, column, index, lambda: step(1, 1))
        await self._serve(table.id, index, found)
        if not found.rows:
            return {"status": "ready", "recall": 1.0, "rows_covered": 0}
        if found.recall < MUST_FIND:
            raise Conflict(
                f"the index finds {found.recall:.3f} of what it should, so searches stay exact",
                hint="create one with larger m and ef_construction, more lists, or no quantization",
            )
        return {
            "status": "ready",
            "recall": round(found.recall, 4),
            "filtered_recall": round(found.filtered, 4),
            "rows_covered": found.rows,
        }

    async def _serve(self, table_id: str, index: Index, found: Serving) -> None:
        """From here on searches may use it, in every process."""
        await self._catalog.change(
            table_id,
            "redefine",
            indexes=lambda t: tuple(
                i.model_copy(update={"serving": found}) if i.id == index.id else i for i in t.indexes
            ),
        )

    def _outgrown(self, table: Table, index: Index) -> None:
        """What was measured of it says little of so many rows: it is measured again, once at a time."""
        if index.id in self._measuring:
            return
        self._measuring[index.id] = task = asyncio.create_task(self._measure_again(table, index))
        task.add_done_callback(lambda _: self._measuring.pop(index.id, None))

    async def _measure_again(self, table: Table, index: Index) -> None:
        payload = {"table": table.id, "index": index.id}
        with contextlib.suppress(VectableError):
            if all(each.payload != payload for each in await self._jobs.unfinished()):
                job = await self._jobs.start("index", table.full_name, payload, 0)
                await self._jobs.wait(job)

    async def _is_defined(self, table_id: str, index: Index) -> bool:
        table = await self._catalog.by_id(table_id)
        return table is not None and any(i.id == index.id for i in table.indexes)

    async def _record(self, index: Index, facts: dict[str, Any]) -> None:
        for _ in range(5):
            entry = (await self._state.get([_key(index)])).get(_key(index))
            expects = {_key(index): entry.revision if entry else 0}
            with contextlib.suppress(Conflict):
                await self._state.commit(expects, {_key(index): json.dumps(facts).encode()})
                break


def _key(index: Index) -> str:
    return f"index/{index.id}"


def _column(table: Table, index: Index) -> Column:
    return next(c for c in table.columns if c.id == index.column)


def _free_name(table: Table, base: str) -> str:
    taken = {i.name for i in table.indexes}
    name, n = base[:55], 2
    while name in taken:
        name, n = f"{base[:55]}_{n}", n + 1
    return name


def _described(index: Index, column: str, record: Any) -> dict[str, Any]:
    facts = {"status": "ready"} if record is None else stored_facts(_key(index), record, "status")
    described: dict[str, Any] = {"name": index.name, "type": index.type, "column": column}
    if index.method is not None:
        described |= {"method": index.method, "parameters": index.parameters}
    return described | facts
