"""Keeping embedding columns true: within the write for few cells, as a job for many, after a crash by whoever
comes next. Pending cells are the queue; nothing else has to be remembered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from typing import Any

from vectable.core.cell import CELL_STATES
from vectable.core.context import Context
from vectable.core.evaluate import matches
from vectable.core.key import KeyBytes
from vectable.core.predicate import TRUE, Clause, Predicate, and_, bind, columns_of, parse_filter
from vectable.core.rows import CellWrite, RecordBatch, WriteBatch
from vectable.core.schema import Column, Table
from vectable.engine.catalog import Catalog
from vectable.engine.cells import Target, check_identity, contents, fill, missing_wants, targets, want_of
from vectable.engine.embed import Embedder
from vectable.engine.jobs import Jobs, Progress
from vectable.engine.leases import Leases
from vectable.errors import EndpointError, InvalidInput, StaleGeneration, TableNotFound, VectableError
from vectable.interfaces import Backend, Position, RemoteEmbeddingProvider

PENDING: tuple[str, ...] = ("new", "stale")
_PAGE = 512
_INLINE_S = 10.0
_REST_S = 30.0
_LONGEST_REST_S = 600.0
"""However long an endpoint asks to be left alone: its models file may have been changed meanwhile."""
log = logging.getLogger(__name__)


class Refresher:
    """Embeds what rows want."""

    def __init__(
        self,
        backend: Backend,
        catalog: Catalog,
        embedder: Embedder,
        jobs: Jobs,
        leases: Leases,
        inline_cells: int,
    ) -> None:
        self._backend = backend
        self._catalog = catalog
        self._embedder = embedder
        self._jobs = jobs
        self._leases = leases
        self._inline_cells = inline_cells
        self._drains: dict[str, tuple[str, Progress]] = {}
        self._dirty: dict[str, int] = {}
        self._rests: dict[str, float] = {}
        self._late: set[asyncio.Task[int]] = set()
        self.inline_s = _INLINE_S
        """How long a write waits for a model that is elsewhere."""
        self._marks = catalog.marks
        jobs.register("embed", self._embed_job)
        jobs.register("refresh", self._refresh_job)

    async def settle(
        self, table: Table, keys: Sequence[KeyBytes], inline: bool | None
    ) -> tuple[int, int, str | None]:
        """Embeds the pending cells among `keys`, or starts a job when they are many:
        (pending, errors, job). The rows are written, so nothing fails here: cells stay pending instead."""
        found: Table | None = table
        try:
            while found is not None:
                try:
                    return await self._settle(found, keys, inline)
                except StaleGeneration:
                    found = await self._catalog.by_id(table.id)
        except TableNotFound:
            pass
        except VectableError as error:
            log.info("cells of %s stay pending: %s", table.full_name, error)
            return len(keys), 0, None
        return 0, 0, None

    async def _settle(
        self, table: Table, keys: Sequence[KeyBytes], inline: bool | None
    ) -> tuple[int, int, str | None]:
        todo = targets(table, automatic=True)
        pending = {t.version.id: await self._pending_keys(t, keys) for t in todo}
        count = sum(map(len, pending.values()))
        if count == 0:
            return 0, 0, None
        if inline is False or (inline is None and count > self._inline_cells):
            return count, 0, await self.start_drain(table, count)
        errors = 0
        for target in todo:
            if self.rests(target):
                continue
            try:
                found = await self._fill_or_leave(target, pending[target.version.id])
            except (StaleGeneration, TableNotFound):
                raise
            except VectableError as error:
                log.info("cells of %s stay pending: %s", target.column.name, error.detail)
                continue
            if found is None:
                continue
            errors += found
            count -= len(pending[target.version.id])
        return count, errors, None

    async def _pending_keys(self, target: Target, keys: Sequence[KeyBytes]) -> list[KeyBytes]:
        version = target.version.id
        async with self._catalog.view(target.table) as view:
            batch = await view.get(keys, [], [version])
        return [k for k, c in zip(batch.keys, batch.cells[version], strict=True) if c.state in PENDING]

    async def _fill_or_leave(self, target: Target, keys: Sequence[KeyBytes]) -> int | None:
        """As `_fill_keys`. None when the cells' model is elsewhere and takes long: the write that wants them
        need not wait, and what is under way goes on without it."""
        if not keys:
            return 0
        provider = await self._embedder.models.provider(target.embedding.model)
        if not isinstance(provider, RemoteEmbeddingProvider):
            return await self._fill_keys(target, keys)
        work = asyncio.create_task(self._fill_keys(target, keys), name="embed what a write wants")
        self._late.add(work)
        work.add_done_callback(self._ended)
        await asyncio.wait([work], timeout=self.inline_s)
        return work.result() if work.done() else None

    def _ended(self, work: asyncio.Task[int]) -> None:
        self._late.discard(work)
        error = None if work.cancelled() else work.exception()
        if error is not None and not isinstance(error, VectableError):
            log.error("embedding what a write wants has failed", exc_info=error)

    async def close(self) -> None:
        """Gives up what writes did not wait for: its cells stay pending."""
        for work in list(self._late):
            work.cancel()
        if self._late:
            await asyncio.wait(list(self._late))

    async def _fill_keys(self, target: Target, keys: Sequence[KeyBytes]) -> int:
        if not keys:
            return 0
        await check_identity(self._embedder, target)
        async with self._catalog.view(target.table) as view:
            batch = await view.get(keys, target.columns, [target.version.id])
        with self._resting_after_failure(target):
            _, errors = await fill(self._backend, self._embedder, self._marks, target, batch, PENDING)
        return errors

    async def start_drain(self, table: Table, count: int) -> str:
        """A job that embeds until nothing of the table is pending; one per table and process."""
        self._dirty[table.id] = self._dirty.get(table.id, 0) + 1
        job_id, progress = self._drains.get(table.id, ("", Progress(0)))
        if self._jobs.runs(job_id):
            progress.total += count
            return job_id
        job_id = await self._jobs.start("embed", table.full_name, {"table": table.id}, count)
        self._drains[table.id] = (job_id, Progress(count))
        return job_id

    async def _embed_job(self, payload: dict[str, Any], progress: Progress) -> None:
        table_id = payload["table"]
        if table_id in self._drains:
            self._drains[table_id] = (self._drains[table_id][0], progress)
        try:
            await self.drain(table_id, progress)
        finally:
            self._drains.pop(table_id, None)

    async def drain(self, table_id: str, progress: Progress) -> None:
        """Embeds until nothing of the table is pending."""
        while (table := await self._catalog.by_id(table_id)) is not None:
            seen, found = self._dirty.get(table_id, 0), 0
            try:
                for target in targets(table, automatic=True):
                    found += await self._exclusively(target, PENDING, TRUE, progress)
            except (StaleGeneration, TableNotFound):
                continue  # the definition changed meanwhile
            if found == 0 and self._dirty.get(table_id, 0) == seen:
                return  # a job must not await anything between this test and its end

    async def refresh(
        self,
        context: Context,
        name: str,
        column_name: str,
        *,
        where: Any = None,
        errors_only: bool = False,
        force: bool = False,
    ) -> tuple[str, int]:
        """Starts a job that embeds the matching rows' cells that are not ready (`errors_only`: only failed
        ones; `force`: all, computed anew): (job id, cells there are to embed). Raises InvalidInput for a
        column not computed."""
        table = await self._catalog.get(context, name)
        column = table.vector_column(column_name)
        if column.embedding is None:
            raise InvalidInput(f"column {column_name!r} is not computed", hint="its vectors are given by you")
        states = _states(errors_only, force)
        wanted = bind(and_([parse_filter(where), parse_filter(context.scope)]), table)
        matched = 0
        target = Target(table, column, column.version)
        async for batch in self.pages(target, states, wanted):
            matched += sum(content is not None for content in contents(target, batch))
        payload = {
            "table": table.id,
            "column": column.id,
            "where": None if where is None else parse_filter(where).model_dump(mode="json"),
            "scope": context.scope.model_dump(mode="json"),
            "states": list(states),
            "force": force,
        }
        return await self._jobs.start("refresh", table.full_name, payload, matched), matched

    def owe_backfill(self, table: Table, column: Column) -> tuple[str, bytes]:
        """The note (see `Jobs.owe`) to be committed with the column."""
        return self._jobs.owe("refresh", table.full_name, _backfill_of(table, column))

    async def backfill(self, table: Table, column: Column, owed: str) -> str | None:
        """Embeds the rows that were there before the column: within the call when few (None), else as a
        job."""
        payload = _backfill_of(table, column)
        async with self._catalog.view(table) as view:
            rows = await view.count(self._backend.push(table, TRUE))
        if rows > self._inline_cells:
            return await self._jobs.start("refresh", table.full_name, payload, rows, owed)
        await self._refresh_job(payload, Progress(rows))
        await self._jobs.redeem(owed)
        return None

    async def _refresh_job(self, payload: dict[str, Any], progress: Progress) -> None:
        while True:
            table = await self._catalog.by_id(payload["table"])
            column = next((c for c in table.columns if c.id == payload["column"]), None) if table else None
            if table is None or column is None:
                raise TableNotFound("the table or column was dropped meanwhile")
            try:
                return await self._refreshed(Target(table, column, column.version), payload, progress)
            except StaleGeneration:
                progress.set(0, progress.total)  # the definition changed meanwhile

    async def _refreshed(self, target: Target, payload: dict[str, Any], progress: Progress) -> None:
        if payload.get("backfill"):
            await self._set_wants(target)
        given = [parse_filter(payload.get("where")), parse_filter(payload.get("scope"))]
        where = bind(and_(given), target.table)
        states = tuple(payload["states"])
        await self._exclusively(target, states, where, progress, force=bool(payload.get("force")))

    async def _set_wants(self, target: Target) -> None:
        async for batch in self.pages(target, ("empty",), TRUE):
            wants = [want_of(target, content) for content in contents(target, batch)]
            keys = [w for w in wants if w is not None]
            cached = target.embedding.cache
            known = await self._embedder.cached_vectors(keys, target.version.normalized) if cached else {}
            await self._write_cells(target, missing_wants(target, batch, known, wants))

    async def _exclusively(
        self, target: Target, states: Sequence[str], where: Predicate, progress: Progress, force: bool = False
    ) -> int:
        """One pass over matching cells under the version's lease; how many were worked on."""
        while True:
            async with self._leases.hold(f"embed/{target.version.id}") as lease:
                if lease is not None:
                    return await self._pass(target, states, where, progress, force)
            await asyncio.sleep(0.3)

    async def fill_now(self, target: Target) -> None:
        """Embeds the version's pending cells, unless somebody else is at it."""
        async with self._leases.hold(f"embed/{target.version.id}") as lease:
            if lease is not None:
                await self._pass(target, PENDING, TRUE, Progress(0), force=False)

    def rests(self, target: Target) -> bool:
        """Whether the version's endpoint failed just now, or said when to come back: its cells wait, for
        whoever comes next."""
        return time.monotonic() < self._rests.get(target.version.id, 0.0)

    @contextlib.contextmanager
    def _resting_after_failure(self, target: Target) -> Iterator[None]:
        try:
            yield
        except EndpointError as error:
            wait_s = max(_REST_S, float(error.context.get("retry_after_s", 0)))
            self._rests[target.version.id] = time.monotonic() + min(wait_s, _LONGEST_REST_S)
            raise

    async def _pass(
        self, target: Target, states: Sequence[str], where: Predicate, progress: Progress, force: bool
    ) -> int:
        with self._resting_after_failure(target):
            return await self._embedded(target, states, where, progress, force)

    async def _embedded(
        self, target: Target, states: Sequence[str], where: Predicate, progress: Progress, force: bool
    ) -> int:
        found = 0
        async for batch in self.pages(target, states, where):
            if found == 0:
                await check_identity(self._embedder, target)
            found += len(batch)
            retried: Collection[str] = CELL_STATES if force else states
            await fill(
                self._backend,
                self._embedder,
                self._marks,
                target,
                batch,
                retried,
                read_cache=not force,
                step=progress.add,
            )
        return found

    async def pages(
        self, target: Target, states: Sequence[str], where: Predicate
    ) -> AsyncGenerator[RecordBatch, None]:
        """Matching rows with cells in `states`, in key order, a page per view."""
        state = Clause(column=f"{target.column.name}.state", operator="in", value=list(states))
        bound = where if set(states) == set(CELL_STATES) else bind(and_([where, state]), target.table)
        pushed = self._backend.push(target.table, bound)
        checked = columns_of(pushed.residual) if pushed.residual is not None else ()
        columns = list(dict.fromkeys([*target.columns, *checked]))
        after: Position | None = None
        while True:
            async with self._catalog.view(target.table) as view:
                pages = [
                    b async for b in view.scan(pushed, columns, [target.version.id], after=after, limit=_PAGE)
                ]
            for page in filter(len, pages):
                after = Position((), page.keys[-1])
                kept = page if pushed.residual is None else _kept(page, pushed.residual)
                if len(kept):
                    yield kept
            if sum(map(len, pages)) < _PAGE:
                return

    async def _write_cells(self, target: Target, cells: Sequence[CellWrite]) -> None:
        if cells:
            batch = WriteBatch(generation=target.table.generation, cells=cells)
            receipt = await self._backend.write(target.table, batch)
            self._marks[target.table.id] = receipt.mark


def _backfill_of(table: Table, column: Column) -> dict[str, Any]:
    return {"table": table.id, "column": column.id, "states": list(PENDING), "backfill": True}


def _states(errors_only: bool, force: bool) -> tuple[str, ...]:
    if errors_only:
        return ("error",)
    # Cells of a backfill that was cancelled are empty still, though there is something to embed.
    return tuple(CELL_STATES) if force else ("new", "stale", "error", "empty")


def _kept(batch: RecordBatch, residual: Predicate) -> RecordBatch:
    return batch.take([i for i, row in enumerate(batch.rows()) if matches(residual, row)])
