"""Writing rows: checked, stored with what they want embedded in one batch, then embedded."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

from vectable.core.context import Context
from vectable.core.evaluate import matches
from vectable.core.key import KeyBytes
from vectable.core.predicate import TRUE, Predicate, and_, bind, columns_of, parse_filter
from vectable.core.puts import PutColumns
from vectable.core.rows import (
    Delete,
    Guard,
    InsertResult,
    OnConflict,
    Outcome,
    RecordBatch,
    WriteBatch,
)
from vectable.core.schema import Table
from vectable.engine.ahead import one_ahead
from vectable.engine.catalog import Catalog
from vectable.engine.definitions import check_ours
from vectable.engine.embed import Embedder
from vectable.engine.prepare import check_assignable, ids_for, row_check
from vectable.engine.puts import Wants, checked_puts, puts_of, wanted
from vectable.engine.refresh import Refresher
from vectable.engine.sweep import Sweeper
from vectable.errors import (
    AccessDenied,
    Conflict,
    InvalidInput,
    InvalidRow,
    KeyExists,
    StaleGeneration,
    TooLarge,
    shift_row,
)
from vectable.interfaces import Backend, Progress

_GUARDS: dict[OnConflict, Guard] = {"error": "absent", "replace": "any", "skip": "skip"}
T = TypeVar("T")
_PAGE = 1_000
_ATTEMPTS = 100
_IN_THREAD = 500
"""Rows from which checking them is worth a thread, so that the event loop stays free."""


class _Ready(NamedTuple):
    """Rows checked by one definition: what is to be written, and what is known of the result."""

    table: Table
    puts: PutColumns
    result: InsertResult


class Writer:
    """Inserts, updates and deletes."""

    def __init__(
        self,
        backend: Backend,
        catalog: Catalog,
        embedder: Embedder,
        refresher: Refresher,
        sweeper: Sweeper,
    ) -> None:
        self._backend = backend
        self._catalog = catalog
        self._embedder = embedder
        self._refresher = refresher
        self._sweeper = sweeper
        self._marks = catalog.marks
        self._turns: dict[str, asyncio.Lock] = {}

    async def insert(
        self,
        context: Context,
        name: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        on_conflict: OnConflict = "error",
        inline: bool | None = None,
    ) -> InsertResult:
        """All rows or none. Raises InvalidRow, KeyExists, TableNotFound. `inline` forces embedding within the
        call (True) or as a job (False); by default the number of changed cells decides."""
        if on_conflict not in _GUARDS:
            raise InvalidInput(f"on_conflict is error, replace or skip, not {on_conflict!r}")
        _require_whole_scope(context)
        await self._sweeper.before_write()
        table, result, changed = await self._current(
            context, name, lambda table: self._insert(context, table, rows, on_conflict)
        )
        if changed:
            result.pending, result.errors, result.job = await self._refresher.settle(table, changed, inline)
        return result

    async def insert_stream(
        self,
        context: Context,
        name: str,
        batches: AsyncIterator[Sequence[Mapping[str, Any]]],
        *,
        on_conflict: OnConflict = "error",
        progress: Progress | None = None,
    ) -> InsertResult:
        """Batch by batch, each all or none; one job embeds what is new. A batch is drawn while the one before
        is written. Raises InvalidRow whose context tells `row` (position in the whole stream) and `inserted`
        (rows kept from the batches before)."""
        _require_whole_scope(context)
        await self._sweeper.before_write()
        total, seen, drawn = InsertResult(), 0, 0
        table: Table | None = None
        changed: list[KeyBytes] = []

        async def draw() -> tuple[Context, Sequence[Mapping[str, Any]], _Ready] | None:
            nonlocal drawn
            async for rows in batches:
                part, key = context, context.idempotency_key
                if key is not None:
                    part = dataclasses.replace(context, idempotency_key=f"{key}/{drawn}")
                drawn += len(rows)
                definition = await self._catalog.get(part, name)
                return part, rows, await self._ready(part, definition, rows, on_conflict, ahead=True)
            return None

        try:
            async with aclosing(one_ahead(draw)) as parts:
                async for part, rows, ready in parts:
                    write = partial(self._insert, part, rows=rows, on_conflict=on_conflict, ready=ready)
                    table, result, keys = await self._current(part, name, write)
                    total.add(result)
                    changed.extend(keys)
                    seen += len(rows)
                    if progress is not None:
                        progress(seen, 0)
        except (InvalidRow, KeyExists, TooLarge) as error:
            shift_row(error, seen)
            error.context["inserted"] = total.inserted + total.replaced
            raise
        finally:
            if table is not None and changed:
                total.pending, total.errors, total.job = await self._refresher.settle(table, changed, None)
        return total

    async def _insert(
        self,
        context: Context,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        on_conflict: OnConflict,
        ready: _Ready | None = None,
    ) -> tuple[Table, InsertResult, list[KeyBytes]]:
        """`ready`: what was made of the rows before, by some definition."""
        check_ours(table, "written")
        receipt_key = context.idempotency_key
        if receipt_key is not None:
            known = await self._backend.receipt(table, receipt_key)
            if known is not None:
                return table, InsertResult(**json.loads(known)), []
        if ready is None or ready.table != table:
            ready = await self._ready(context, table, rows, on_conflict)
        puts, result = ready.puts, ready.result
        receipts = {}
        if receipt_key is not None:
            # Counts are those of the usual case; a retry after a partial conflict repeats them.
            promised = dataclasses.replace(result, inserted=len(puts))
            receipts = {receipt_key: json.dumps(dataclasses.asdict(promised), default=str).encode()}
        receipt = await self._backend.write(
            table, WriteBatch(generation=table.generation, puts=puts, receipts=receipts)
        )
        self._marks[table.id] = receipt.mark
        _count(result, receipt.outcomes)
        landed = ("inserted", "replaced")
        return table, result, [puts.keys[i] for i in puts.unsettled() if receipt.outcomes[i] in landed]

    async def _ready(
        self,
        context: Context,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        on_conflict: OnConflict,
        *,
        ahead: bool = False,
    ) -> _Ready:
        """`ahead`: while the rows before are written, which comes first."""
        check = partial(checked_puts, table, rows, ids_for(context.idempotency_key), on_conflict)
        aside = len(rows) > _IN_THREAD
        checked = await asyncio.to_thread(check, yields=ahead) if aside else check()
        cached = await self._cached(table, checked.wants)
        puts = puts_of(checked.rows, checked.wants, cached, _GUARDS[on_conflict])
        result = InsertResult(ids=checked.ids)
        duplicates = len(rows) - len(puts)
        result.replaced = duplicates if on_conflict == "replace" else 0
        result.skipped = duplicates if on_conflict == "skip" else 0
        return _Ready(table, puts, result)

    async def _cached(self, table: Table, wants: Wants) -> dict[tuple[str, bytes], bytes]:
        """Vectors the cache holds, by version id and content key."""
        found: dict[tuple[str, bytes], bytes] = {}
        for column, version in table.versions:
            if column.embedding is None or not (column.embedding.cache and column.embedding.auto_update):
                continue
            keys = [want for want in wants.get(version.id, ()) if want is not None]
            vectors = await self._embedder.cached_vectors(keys, version.normalized) if keys else {}
            found |= {(version.id, key): vector for key, vector in vectors.items()}
        return found

    async def update(
        self, context: Context, name: str, where: Any, values: Mapping[str, Any], *, all: bool = False
    ) -> int:
        """Sets `values` in every matching row, page by page; how many rows. A row changed meanwhile by
        somebody else is looked at again. Raises InvalidInput when `where` is empty and not `all`."""
        predicate = _checked_where(where, all)
        if not isinstance(values, Mapping) or not values:
            raise InvalidInput("update needs values", hint='e.g. {"language": "Go"}')

        async def page(table: Table, batch: RecordBatch) -> tuple[PutColumns, list[Delete]]:
            check_assignable(table, values)  # the definition may have changed meanwhile
            prepared = row_check(table).rows([{**row, **values} for row in batch.rows()], lambda _: "")
            wants = wanted(table, prepared)
            for column in table.vector_columns:
                if column.embedding is None and column.name not in values:
                    del wants[column.version.id]
            cached = await self._cached(table, wants)
            return puts_of(prepared, wants, cached, "any", batch.revisions), []

        return await self._change_matching(
            context, name, predicate, page, lambda t: check_assignable(t, values)
        )

    async def delete(self, context: Context, name: str, where: Any, *, all: bool = False) -> int:
        """Deletes every matching row, page by page; how many. Raises InvalidInput when `where` is empty and
        not `all`."""
        predicate = _checked_where(where, all)

        async def page(table: Table, batch: RecordBatch) -> tuple[PutColumns, list[Delete]]:
            pairs = zip(batch.keys, batch.revisions, strict=True)
            return PutColumns([], {}), [Delete(key, revision) for key, revision in pairs]

        return await self._change_matching(context, name, predicate, page, lambda t: None)

    async def _change_matching(
        self,
        context: Context,
        name: str,
        where: Predicate,
        page: Callable[[Table, RecordBatch], Awaitable[tuple[PutColumns, list[Delete]]]],
        check: Callable[[Table], None],
    ) -> int:
        await self._sweeper.before_write()
        table = check_ours(await self._catalog.get(context, name), "written")
        check(table)
        bound = bind(and_([where, parse_filter(context.scope)]), table)
        keys = await self._matching_keys(context, table, bound)
        done = 0
        changed: list[KeyBytes] = []
        for start in range(0, len(keys), _PAGE):
            context.check_deadline()
            todo: Sequence[KeyBytes] = keys[start : start + _PAGE]
            for attempt in range(_ATTEMPTS):
                change = partial(self._change_page, context, where=where, keys=todo, page=page)
                async with self._turn(table, attempt):
                    table, count, todo, open_keys = await self._current(context, name, change)
                done += count
                changed.extend(open_keys)
                if not todo:
                    break
            else:
                raise Conflict("rows kept changing while they were written", hint="try again")
        if changed:
            await self._refresher.settle(table, changed, None)
        return done

    @asynccontextmanager
    async def _turn(self, table: Table, attempt: int) -> AsyncIterator[None]:
        """The first attempt is made at once. Later ones, where somebody else changes the same rows, are made
        one at a time in this process, and after a random while because of the others."""
        if attempt == 0:
            yield
            return
        async with self._turns.setdefault(table.id, asyncio.Lock()):
            await asyncio.sleep(random.uniform(0, 0.002 * attempt))  # noqa: S311 - no secret depends on it
            yield

    async def _matching_keys(self, context: Context, table: Table, bound: Predicate) -> list[KeyBytes]:
        pushed = self._backend.push(table, bound)
        columns = list(columns_of(pushed.residual)) if pushed.residual is not None else []
        keys: list[KeyBytes] = []
        async with self._catalog.view(table) as view:
            async for batch in view.scan(pushed, columns):
                if pushed.residual is None:
                    keys.extend(batch.keys)
                else:
                    rows = zip(batch.keys, batch.rows(), strict=True)
                    keys.extend(key for key, row in rows if matches(pushed.residual, row))
        return keys

    async def _change_page(
        self,
        context: Context,
        table: Table,
        where: Predicate,
        keys: Sequence[KeyBytes],
        page: Callable[[Table, RecordBatch], Awaitable[tuple[PutColumns, list[Delete]]]],
    ) -> tuple[Table, int, list[KeyBytes], list[KeyBytes]]:
        bound = bind(and_([where, parse_filter(context.scope)]), table)
        names = [c.name for c in table.stored_columns]
        extra = [n for n in columns_of(bound) if n not in names]
        given = [c for c in table.vector_columns if c.embedding is None]
        async with self._catalog.view(table) as view:
            batch = await view.get(keys, [*names, *extra], [c.version.id for c in given])
        batch = batch.take([i for i, row in enumerate(batch.rows()) if matches(bound, row)])
        if not len(batch):
            return table, 0, [], []
        columns: dict[str, Sequence[Any]] = {name: batch.columns[name] for name in names}
        for column in given:
            cells = batch.cells[column.version.id]
            columns[column.name] = [None if c.vector is None else _components(c.vector) for c in cells]
        full = RecordBatch(batch.keys, columns, batch.revisions)
        puts, deletes = await page(table, full)
        receipt = await self._backend.write(
            table, WriteBatch(generation=table.generation, puts=puts, deletes=deletes)
        )
        self._marks[table.id] = receipt.mark
        again = [k for k, o in zip(batch.keys, receipt.outcomes, strict=True) if o == "changed"]
        done = sum(o in ("replaced", "inserted", "deleted") for o in receipt.outcomes)
        changed = [puts.keys[i] for i in puts.unsettled() if receipt.outcomes[i] == "replaced"]
        return table, done, again, changed

    async def _current(self, context: Context, name: str, work: Callable[[Table], Awaitable[T]]) -> T:
        """Runs `work` with the current definition, anew when it changed meanwhile."""
        for _ in range(20):
            table = await self._catalog.get(context, name)
            try:
                return await work(table)
            except StaleGeneration:
                await asyncio.sleep(0.005)
        raise Conflict("the table's definition kept changing", hint="try again")


def _components(stored: bytes) -> Any:
    from vectable.core.vectors import from_bytes

    return from_bytes(stored)


def _count(result: InsertResult, outcomes: Sequence[Outcome]) -> None:
    result.inserted += outcomes.count("inserted")
    result.replaced += outcomes.count("replaced")
    result.skipped += outcomes.count("skipped")


def _checked_where(where: Any, all_rows: bool) -> Predicate:
    predicate = parse_filter(where)
    if not all_rows and not columns_of(predicate) and matches(predicate, {}):
        raise InvalidInput(
            "no filter was given, which would change every row", hint="say all=true if that is meant"
        )
    return predicate


def _require_whole_scope(context: Context) -> None:
    if context.scope != TRUE:
        raise AccessDenied("this key may only see some rows, so it cannot insert any")
