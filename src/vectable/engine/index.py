"""Indexes: vector indexes built beside the table as jobs, scalar ones by the backend."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any, cast

from vectable.core.context import Context
from vectable.core.schema import LIST_TYPES, Column, ColumnType, Index, Metric, Table, check_name, new_id
from vectable.engine.catalog import Catalog
from vectable.engine.jobs import Jobs, Progress
from vectable.engine.search import Searcher
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
from vectable.interfaces import Backend, StateStore, VectorLibrary

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
        jobs.register("index", self._build_job)

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
        which is exact and needs no building). Raises AlreadyExists, InvalidInput, UnknownColumn."""
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
        self._library.check(method, dict(parameters or {}), column.version.dimensions)
        index = Index(
            id=new_id(),
            name=index_name or _free_name(table, f"{column_name}_{method}"),
            column=column.id,
            type="vector",
            method=cast(Any, method),
            parameters=dict(parameters or {}),
            version=column.version.id,
        )
        return index, await self._add_vector(table, index)

    async def define(self, table_id: str, index: Index) -> str | None:
        """An index as it is defined elsewhere, over this table's column and version: the job that builds it
        (None: ready). Raises AlreadyExists, Unsupported."""
        table = await self._catalog.by_id(table_id)
        if table is None:
            raise TableNotFound("the table was dropped meanwhile")
        if index.type == "vector":
            return await self._add_vector(table, index)
        if not self._backend.capabilities.scalar_indexes:
            raise Unsupported("this backend has no scalar indexes")
        await self._add(table, index, {})
        return None

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
        """A btree or hash index on a column, ready on return. Raises Unsupported, InvalidInput."""
        table = await self._catalog.get(context, name)
        column = table.column(column_name)
        if type_ not in ("btree", "hash"):
            raise InvalidInput(f"unknown index type {type_!r}", hint="types: btree, hash")
        if column.type in {*LIST_TYPES, ColumnType.JSON, ColumnType.VECTOR, ColumnType.IMAGE}:
            raise InvalidInput(f"a {column.type.value} column cannot have a {type_} index")
        if not self._backend.capabilities.scalar_indexes:
            raise Unsupported("this backend has no scalar indexes")
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

        kind: Any = "redefine" if index.type == "vector" else "create_index"
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
        """Every index of the table, JSON-ready, as `GET …/indexes` answers."""
        table = await self._catalog.get(context, name)
        records = await self._state.get([_key(i) for i in table.indexes])
        names = {c.id: c.name for c in table.columns}
        return [_described(i, names[i.column], records.get(_key(i))) for i in table.indexes]

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
        kind: Any = "redefine" if index.type == "vector" else "drop_index"
        await self._catalog.change(
            table.id,
            kind,
            indexes=lambda t: tuple(i for i in t.indexes if i.id != index.id),
            column=_column(table, index),
            index=index,
        )
        await self._state.commit(deletes=[_key(index)])
        if index.type == "vector":
            self._searcher.drop_index(table, index)

    async def _build_job(self, payload: dict[str, Any], progress: Progress) -> None:
        table = await self._catalog.by_id(payload["table"])
        index = next((i for i in table.indexes if i.id == payload["index"]), None) if table else None
        if table is None or index is None:
            return

        def step(done: int, total: int) -> None:
            progress.set(done, total)
            if progress.stopped:
                raise Conflict("the build was stopped")

        try:
            recall = await self._searcher.build_index(table, index, step)
        except asyncio.CancelledError:
            if progress.cancelled:
                await self._record(index, {"status": "error", "error": "cancelled"})
            raise
        except VectableError as error:
            await self._record(index, {"status": "error", "error": str(error)})
            raise
        covered = self._searcher.index_status(table, index).rows_covered
        await self._record(index, {"status": "ready", "recall": round(recall, 4), "rows_covered": covered})

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
