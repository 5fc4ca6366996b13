"""Reading: queries, counts, streams, and the indexes over resident rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from vectable.core.context import LOCAL, Context
from vectable.core.evaluate import row_test
from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.query import Query
from vectable.core.rows import RecordBatch
from vectable.core.schema import Column, Index, Table, Version
from vectable.core.vectors import Vector
from vectable.engine.resident.registry import ResidentRegistry
from vectable.engine.resident.resident import Resident
from vectable.engine.resident.snapshot import Snapshot
from vectable.engine.search.choose import FLAT_ROWS
from vectable.engine.search.cursor import Place
from vectable.engine.search.direct import direct_reader
from vectable.engine.search.in_backend import Outgrown
from vectable.engine.search.plain import direct_count, direct_page, scan_count, scan_page
from vectable.engine.search.prepare import Prepared, Preparer, Target, unlimited
from vectable.engine.search.proved import Begin
from vectable.engine.search.reader import Reader, Reading
from vectable.engine.search.result import SearchResult
from vectable.engine.search.similar import SimilarSearch, is_quick
from vectable.errors import IndexNotFound, InvalidInput, Unsupported
from vectable.interfaces import Backend, Noted, Progress

_T = TypeVar("_T")
_FEW_HITS = 100


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """`recall`: measured recall@10 of an approximate index, None before it is built. `rows_covered`: rows
    the index holds; newer ones are searched beside it, exactly."""

    status: Literal["building", "ready", "error"]
    recall: float | None
    filtered_recall: float | None
    rows_covered: int | None


def drive(read: Coroutine[Any, Any, _T]) -> _T:
    """Runs a coroutine that never suspends to its end, on this thread."""
    try:
        read.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    read.close()
    raise RuntimeError("a backend that says its reads never suspend has suspended")


class Searcher:
    """All reads of one database. `directory`: where derived files go (None: nowhere). Over a backend whose
    reads never suspend, a whole read runs on one thread of `pool`."""

    def __init__(
        self,
        database_id: str,
        backend: Backend,
        registry: ResidentRegistry,
        *,
        directory: Path | None,
        pool: Executor,
    ) -> None:
        self._backend = backend
        self._registry = registry
        self._pool = pool
        self._direct = direct_reader(backend)
        self._reader = Reader(database_id, backend, registry, directory, pool)
        self._similar = SimilarSearch(self._reader)
        self._preparer = Preparer()

    async def _hop(self, read: Coroutine[Any, Any, _T]) -> _T:
        if not self._reader.inline:
            return await read
        return await asyncio.get_running_loop().run_in_executor(self._pool, drive, read)

    async def run(
        self,
        table: Table,
        query: Query,
        context: Context = LOCAL,
        *,
        vector: Vector | None = None,
        at_least: Mark | None = None,
        backend_plan: bool = False,
    ) -> SearchResult:
        """One page of the query. `vector`: what `query.similar.to` means, float32 (dimensions,), checked.
        `backend_plan`: the plan tells how the database itself says it searches, where it does.

        Raises InvalidInput and its kin, CursorExpired, BackendTimeout, and the backend's errors."""
        return await self._hop(self._run(table, query, context, vector, at_least, backend_plan))

    async def unchanged(
        self, table: Table, query: Query, context: Context, vector: Vector | None, noted: Noted
    ) -> SearchResult | None:
        """A page as `run` would give it, in one statement, which also proves that what was noted of the state
        store still holds; of a similarity query, a first page by the rows held. None where that cannot be:
        `run` tells. Raises like `run`."""
        prepared = self._preparer.prepare(table, query, context, vector)
        target = prepared.target
        if target is None:
            return None if self._direct is None else await direct_page(self._direct, prepared, noted)
        held = self._similar.held(prepared, target)
        if held is None:
            return None
        if not self._reader.inline:
            return await self._similar.unchanged(prepared, target, noted)
        if self._at_once(prepared, target, *held):
            async with self._reader.turn:
                return drive(self._similar.unchanged(prepared, target, noted))
        return await self._hop(self._similar.unchanged(prepared, target, noted))

    def _at_once(self, prepared: Prepared, target: Target, resident: Resident, snapshot: Snapshot) -> bool:
        """Whether it takes so little that telling another thread of it would be a good part of it. What takes
        longer than a small table's does not queue up for its turn, but goes to the threads."""
        if prepared.limit + prepared.offset > _FEW_HITS:
            return False
        if snapshot.size > FLAT_ROWS and self._reader.turn.crowded:
            return False
        return is_quick(prepared, target, resident, snapshot)

    async def unchanged_here(
        self, table: Table, query: Query, context: Context, vector: Vector | None, noted: Noted, begin: Begin
    ) -> SearchResult | None:
        """`unchanged` on the calling thread, never suspended: where the backend's reads are, `begin` starts
        them on its loop."""
        prepared = self._preparer.prepare(table, query, context, vector)
        if prepared.target is None:
            return None if self._direct is None else await begin(direct_page(self._direct, prepared, noted))
        elsewhere = None if self._reader.inline else begin
        return await self._similar.unchanged(prepared, prepared.target, noted, elsewhere)

    def run_here(
        self,
        table: Table,
        query: Query,
        context: Context = LOCAL,
        *,
        vector: Vector | None = None,
        at_least: Mark | None = None,
    ) -> SearchResult:
        """`run` on the calling thread, without a loop: only over a backend whose reads never suspend
        (`capabilities.inline`), else Unsupported."""
        if not self._reader.inline:
            raise Unsupported("this backend's reads suspend", hint="use run on an event loop")
        return drive(self._run(table, query, context, vector, at_least))

    async def _run(
        self,
        table: Table,
        query: Query,
        context: Context,
        vector: Vector | None,
        at_least: Mark | None,
        backend_plan: bool = False,
    ) -> SearchResult:
        prepared = self._preparer.prepare(table, query, context, vector)
        if prepared.target is not None:
            return await self._similar.run(prepared, prepared.target, at_least, backend_plan=backend_plan)
        place = prepared.place()
        async with self._backend.view(table, at_least) as view:
            return await scan_page(self._backend, view, prepared, place, prepared.limit, prepared.offset)

    async def count_unchanged(self, table: Table, query: Query, context: Context, noted: Noted) -> int | None:
        """`count` as `unchanged` gives a page."""
        if self._direct is None or query.similar is not None:
            return None
        prepared = self._preparer.prepare(table, _uncut(query), context, None)
        return await direct_count(self._direct, prepared, noted)

    async def count(
        self,
        table: Table,
        query: Query,
        context: Context = LOCAL,
        *,
        vector: Vector | None = None,
        at_least: Mark | None = None,
    ) -> int:
        """How many rows match; limit, offset and cursor are ignored. Raises like `run`."""
        return await self._hop(self._count(table, _uncut(query), context, vector, at_least))

    async def _count(
        self, table: Table, query: Query, context: Context, vector: Vector | None, at_least: Mark | None
    ) -> int:
        prepared = self._preparer.prepare(table, query, context, vector)
        if prepared.target is not None:
            return await self._similar.count(prepared, prepared.target, at_least)
        async with self._backend.view(table, at_least) as view:
            return await scan_count(self._backend, view, prepared)

    async def stream(
        self,
        table: Table,
        query: Query,
        context: Context = LOCAL,
        *,
        vector: Vector | None = None,
        at_least: Mark | None = None,
        page: int = 1_000,
    ) -> AsyncIterator[SearchResult]:
        """Every matching row in order, in pages of `page`, each true at its own moment; a limit that was set
        on the query holds, its default does not. With `similar`, keys, scores and order are those of the
        first moment, and rows that have gone or no longer pass the filter are left out of later pages."""
        if page < 1:
            raise InvalidInput("a page holds at least one row")
        prepared = self._preparer.prepare(table, query, context, vector, unlimited=True)
        limit = None if unlimited(query) else query.limit
        pages = self._scan_pages if prepared.target is None else self._similar_pages
        async for result in pages(prepared, context, at_least, page, limit):
            yield result

    async def _scan_pages(
        self, prepared: Prepared, context: Context, at_least: Mark | None, page: int, limit: int | None
    ) -> AsyncIterator[SearchResult]:
        place, offset, left = prepared.place(), prepared.offset, limit

        async def read(where: Place | None, size: int, skip: int) -> SearchResult:
            async with self._backend.view(prepared.table, at_least) as view:
                return await scan_page(self._backend, view, prepared, where, size, skip)

        while left is None or left > 0:
            context.check_deadline()
            size = page if left is None else min(page, left)
            result = await self._hop(read(place, size, offset))
            cursor = result.next_cursor
            if len(result):
                yield result
            if cursor is None:
                return
            place, offset = replace(prepared, cursor=cursor).place(), 0
            left = None if left is None else left - len(result)

    async def _similar_pages(
        self, prepared: Prepared, context: Context, at_least: Mark | None, page: int, limit: int | None
    ) -> AsyncIterator[SearchResult]:
        target = prepared.target
        if target is None:
            return
        bare = replace(
            prepared.compiled,
            selection=replace(prepared.compiled.selection, columns=(), versions=(), outputs=()),
        )
        whole = limit is None
        asked = replace(prepared, compiled=bare, limit=0 if limit is None else limit)
        first = await self._hop(self._similar.run(asked, target, at_least, unlimited=whole))
        keys = first.keys[prepared.offset :] if whole else first.keys
        scores = dict(
            zip(first.keys, zip(first.scores or (), first.distances or (), strict=True), strict=True)
        )
        for at in range(0, len(keys), page):
            context.check_deadline()
            yield await self._hop(self._rows_of(prepared, keys[at : at + page], scores, first))

    async def _rows_of(
        self,
        prepared: Prepared,
        keys: list[KeyBytes],
        scores: dict[KeyBytes, tuple[float, float]],
        first: SearchResult,
    ) -> SearchResult:
        compiled = prepared.compiled
        columns = tuple(dict.fromkeys([*compiled.selection.columns, *compiled.where_columns]))
        holds = row_test(prepared.where)
        async with self._backend.view(prepared.table, first.mark) as view:
            batch = await view.get(keys, columns, compiled.selection.versions)
            mark = view.mark
        kept = [
            i for i in range(len(batch)) if holds({n: batch.columns[n][i] for n in compiled.where_columns})
        ]
        batch = batch.take(kept)
        shown = RecordBatch(
            batch.keys,
            {n: batch.columns[n] for n in compiled.selection.columns},
            batch.revisions,
            batch.cells,
        )
        found = [scores[key] for key in batch.keys]
        return SearchResult(
            batch.keys,
            compiled.selection.rows(shown),
            [s for s, _ in found],
            [d for _, d in found],
            first.plan,
            mark,
            None,
            first.coverage,
        )

    async def warm(self, table: Table, column: str) -> None:
        """Loads the rows of a vector column, so that the first search finds them in memory."""
        await self._hop(self._warm(table, table.vector_column(column)))

    async def _warm(self, table: Table, column: Column) -> None:
        read = self._reader.read(table, column.version, column.serves_stale, (), None, patient=True)
        async with read as reading:
            if reading.resident is not None and reading.snapshot is not None:
                self._reader.upkeep.after_search(reading.resident, reading.snapshot, column, table.indexes)

    def on_outgrown(self, outgrown: Outgrown) -> None:
        """`outgrown(table, index)` is called, perhaps often, on the thread of a search that finds an index of
        the backend measured over far fewer rows than there are."""
        self._similar.in_backend.on_outgrown = outgrown

    def check_parameters(self, method: str, parameters: dict[str, Any], version: Version) -> dict[str, Any]:
        """`parameters` when an index of that method over that version can be built with them. Raises
        InvalidInput."""
        self._registry.library.check(method, parameters, version.dimensions)
        return parameters

    async def build_index(self, table: Table, index: Index, progress: Progress) -> float:
        """Builds a vector index over the rows there are and measures it; returns recall@10 overall (1.0 for
        "flat", which needs no structure). Raises Unsupported where the rows cannot be held in
        memory, InvalidInput for parameters that do not fit. `progress` is called on another thread and may
        raise, which ends the build."""
        column = _column_of(table, index)
        kind = str(index.method)
        dimensions = column.version.dimensions
        self._registry.library.check(kind, index.parameters, dimensions)

        async def load() -> Reading:
            read = self._reader.read(table, column.version, column.serves_stale, (), None, patient=True)
            async with read as reading:
                return reading

        reading = await self._hop(load())
        if reading.resident is None or reading.snapshot is None:
            raise Unsupported(f"the index cannot be built: {reading.why}", hint="raise the budget")
        if kind == "flat":
            return 1.0
        resident = reading.resident
        return await asyncio.get_running_loop().run_in_executor(
            None, self._build, resident, index, kind, progress
        )

    def _build(self, resident: Resident, index: Index, kind: str, progress: Progress) -> float:
        upkeep, snapshot = self._reader.upkeep, resident.snapshot
        if snapshot is not None and (snapshot.delta.length or snapshot.dead):
            upkeep.merge_now(resident, progress)
            snapshot = resident.snapshot
        if snapshot is None or not len(snapshot.base):
            return 1.0
        made = upkeep.build_now(resident, snapshot, index.id, kind, dict(index.parameters), progress)
        if made is None:
            raise Unsupported("the index does not fit in memory", hint="raise the budget for resident rows")
        return made.recall

    def index_status(self, table: Table, index: Index) -> IndexStatus:
        """How an index over resident rows stands, in this process."""
        column = _column_of(table, index)
        resident = self._reader.held(table, column.version, column.serves_stale)
        snapshot = None if resident is None else resident.snapshot
        if index.method == "flat":
            return IndexStatus("ready", 1.0, 1.0, None if snapshot is None else snapshot.searchable)
        structure = None if resident is None else resident.structures.get(index.id)
        if structure is None:
            if snapshot is not None and snapshot.searchable <= FLAT_ROWS:
                # So few rows are searched exactly, index or not.
                return IndexStatus("ready", 1.0, 1.0, snapshot.searchable)
            return IndexStatus("building", None, None, None)
        return IndexStatus("ready", structure.recall, structure.filtered, structure.index.size)

    def drop_index(self, table: Table, index: Index) -> None:
        """Forgets an index and its file. Dropping it again does nothing."""
        for column in table.vector_columns:
            for version in column.versions:
                if version.id == index.version:
                    self._reader.drop_structure(table, version, column.serves_stale, index.id)

    def sweep(self, versions: Collection[str]) -> int:
        """Deletes derived files of versions that are not among these; how many. Files of a version that is
        still searched elsewhere are made anew there."""
        return self._reader.upkeep.sweep(versions)

    async def close(self) -> None:
        """Lets go of everything held for this database."""
        await self._reader.close()


def _uncut(query: Query) -> Query:
    """Every row that matches, in whatever order."""
    return query.model_copy(update={"cursor": None, "offset": 0, "limit": 0, "order_by": ()})


def _column_of(table: Table, index: Index) -> Column:
    for column in table.vector_columns:
        if column.id == index.column and index.version in (None, column.active):
            return column
    raise IndexNotFound(f"index {index.name!r} has no vector column", hint="create it on a vector column")
