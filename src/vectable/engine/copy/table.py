"""One table from one database to the other: rows, what changed meanwhile, the check, the catalogue.

Until it is complete and checked, the destination's catalogue does not know the table: nobody sees half of it,
and nobody begins to embed it. Every step may be repeated; the record in the destination says where to go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing

from vectable.core.cell import GIVEN
from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.predicate import TRUE
from vectable.core.rows import RecordBatch, WriteBatch
from vectable.core.schema import Table
from vectable.engine.copy.compare import (
    PAGE,
    Moment,
    Samples,
    checksums,
    compare_searches,
    differing_keys,
    next_limit,
)
from vectable.engine.copy.definition import for_target, same_shape, version_ids
from vectable.engine.copy.record import CopyRecord, Records
from vectable.engine.copy.result import CopiedTable
from vectable.engine.copy.rows import copying, weight
from vectable.engine.copy.side import Report, Side
from vectable.errors import BackendError, Conflict, MarkExpired, StaleGeneration, TableNotFound
from vectable.interfaces import SchemaChange, View

_ROUNDS = 5
"""How often what changed meanwhile is copied before the check is made anyway."""
_FEW = 1_000
_CHUNK = 500
_RESTARTS = 3


class DefinitionChanged(Exception):
    """The source's columns are not those that the copy began with."""


class TableCopy:
    """Copies one table that the destination's catalogue does not have. `cache`: with the cache entries its
    cells name."""

    def __init__(self, source: Side, target: Side, records: Records, report: Report, *, cache: bool) -> None:
        self._source = source
        self._target = target
        self._records = records
        self._report = report
        self._cache = cache

    async def run(
        self, table: Table, record: CopyRecord | None, fresh: bool
    ) -> tuple[CopiedTable, CopyRecord]:
        """`record`: what an earlier copy left. `fresh`: under new ids. Raises Conflict when the definition
        keeps changing, BackendError when the check fails."""
        result = CopiedTable(table.full_name, "copied" if record is None else "continued")
        for _ in range(_RESTARTS):
            if record is not None and not same_shape(record.source, table, ids=True):
                await self._discard(record)
                record, result.status, result.changed = None, "copied", 0
            try:
                record = record or await self._begin(table, fresh)
                await self._make(record)
                await self._copy_rows(record)
                await self._finish(record, result)
                return result, record
            except (DefinitionChanged, StaleGeneration, TableNotFound):
                current = await self._source.catalog.by_id(table.id)
                if current is None:
                    if record is not None:
                        await self._discard(record)
                    raise Conflict(f"table {table.full_name!r} was dropped while it was copied") from None
                table = current
        raise Conflict(
            f"the columns of table {table.full_name!r} kept changing while it was copied",
            hint="try again when nobody changes them",
        )

    async def _begin(self, table: Table, fresh: bool) -> CopyRecord:
        async with self._source.catalog.view(table) as view:
            record = CopyRecord(source=table, table=for_target(table, fresh=fresh), mark=view.mark.value)
        await self._records.save(record)
        return record

    async def _make(self, record: CopyRecord) -> None:
        """The destination's storage; does nothing where it is there."""
        await self._target.backend.alter(record.table, SchemaChange("create_table"))

    async def _discard(self, record: CopyRecord) -> None:
        await self._make(record)  # so that there is something to drop, wherever an earlier copy stopped
        await self._target.backend.alter(record.table, SchemaChange("drop_table"))
        self._target.catalog.forget_mark(record.table)
        await self._target.state.commit(deletes=[self._records.key(record.source.id)])

    async def _check_definition(self, record: CopyRecord) -> None:
        current = await self._source.catalog.by_id(record.source.id)
        if current is None or not same_shape(record.source, current, ids=True):
            raise DefinitionChanged

    async def _copy_rows(self, record: CopyRecord) -> None:
        name, limit, begun = record.source.full_name, PAGE, False
        while not record.rows_done:
            after = bytes.fromhex(record.after) or None
            async with self._source.catalog.view(record.source) as view:
                await self._check_definition(record)
                moment = Moment(self._source.backend, record.source, view)
                total = await view.count(self._source.backend.push(record.source, TRUE))
                async with aclosing(moment.pages(after, limit)) as pages:  # type: ignore[type-var]
                    batch = await anext(pages, None)
            if not begun:
                self._report("copy", name, record.copied, max(total, record.copied))
                begun = True
            if batch is None:
                record.rows_done = True
                await self._records.save(record)
                return
            # The view is closed again: a copy may take long, and old moments cost their database.
            await self._write(record, batch)
            limit = next_limit(limit, weight(batch))
            record.after = batch.keys[-1].hex()
            record.copied += len(batch)
            await self._records.save(record)
            self._report("copy", name, record.copied, max(total, record.copied))

    async def _write(self, record: CopyRecord, batch: RecordBatch, deletes: Sequence[KeyBytes] = ()) -> None:
        versions = version_ids(record.source, record.table)
        write = copying(batch, versions, record.table.generation, deletes=deletes)
        await write_to(self._target, record.table, write)
        if self._cache:
            await copy_cache_of(self._source, self._target, record.source, batch)

    async def _finish(self, record: CopyRecord, result: CopiedTable) -> None:
        """What changed meanwhile, then the check of that very moment, then the catalogue."""
        for round_ in range(_ROUNDS):
            async with self._source.catalog.view(record.source) as view:
                await self._check_definition(record)
                changed = await self._catch_up(record, view)
                result.changed += changed
                record.mark = view.mark.value
                await self._records.save(record)
                if changed > _FEW and round_ < _ROUNDS - 1:
                    continue
                await self._check(record, view, result)
                break
        record.done = True

    async def _catch_up(self, record: CopyRecord, view: View) -> int:
        moment = Moment(self._source.backend, record.source, view)
        seen: set[KeyBytes] = set()
        try:
            async with aclosing(view.changes(Mark(record.mark))) as changes:  # type: ignore[type-var]
                async for keys in changes:
                    fresh = list(dict.fromkeys(k for k in keys if k not in seen))
                    seen.update(fresh)
                    await self._copy_keys(record, moment, fresh)
        except MarkExpired:
            return await self._repair(record, moment)
        return len(seen)

    async def _copy_keys(self, record: CopyRecord, moment: Moment, keys: Sequence[KeyBytes]) -> None:
        for start in range(0, len(keys), _CHUNK):
            chunk = list(keys[start : start + _CHUNK])
            batch = await moment.get(chunk)
            there = set(batch.keys)
            await self._write(record, batch, [k for k in chunk if k not in there])

    async def _repair(self, record: CopyRecord, moment: Moment) -> int:
        async with self._target.catalog.view(record.table) as view:
            theirs = Moment(self._target.backend, record.table, view)
            keys = await differing_keys(moment, theirs, embedded_since=False)
        await self._copy_keys(record, moment, keys)
        return len(keys)

    async def _check(self, record: CopyRecord, view: View, result: CopiedTable) -> None:
        source = Moment(self._source.backend, record.source, view)
        apart = await self._compare(record, source, result)
        if apart:
            # A cell's failed attempts are no change that `changes` has to tell: what differs is copied again.
            result.changed += await self._repair(record, source)
            apart = await self._compare(record, source, result)
        if apart:
            raise BackendError(
                f"the copy of table {record.source.full_name!r} is not what was copied",
                hint="the destination does not give back what was written to it; nothing was published",
                context={"columns": apart},
            )

    async def _compare(self, record: CopyRecord, source: Moment, result: CopiedTable) -> list[str]:
        async with self._target.catalog.view(record.table) as view:
            target = Moment(self._target.backend, record.table, view)
            record.target_mark = view.mark.value
            return await compare(source, target, self._report, result)


async def compare(source: Moment, target: Moment, report: Report, result: CopiedTable) -> list[str]:
    """What is not the same on both sides: columns by checksum, "rows", and columns found otherwise by
    searches. Fills in what `result` says of the check."""
    name = source.table.full_name
    total = 2 * await source.view.count(source.backend.push(source.table, TRUE))
    samples = Samples(source.table)
    ours = await checksums(source, lambda n: report("check", name, n, total), samples)
    theirs = await checksums(target, lambda n: report("check", name, min(total, ours.rows + n), total))
    result.rows, result.checksums = ours.rows, ours.by_column()
    apart = ours.differing(theirs)
    if apart:
        return apart
    result.searches, apart = await compare_searches(source, target, samples)
    return apart


async def write_to(side: Side, table: Table, write: WriteBatch) -> None:
    """Writes and notes the mark, so that this process reads what it wrote. Raises Conflict where a guarded
    row was changed meanwhile."""
    receipt = await side.backend.write(table, write)
    side.catalog.marks[table.id] = receipt.mark
    if "changed" in receipt.outcomes:
        raise Conflict(
            f"rows of table {table.full_name!r} in {side.url} changed while they were brought up to date",
            hint="run the copy again",
        )


async def copy_cache_of(source: Side, target: Side, table: Table, batch: RecordBatch) -> int:
    """The cache entries that the batch's cells name; how many the target did not have."""
    count = 0
    for column, version in table.versions:
        if column.embedding is None:
            continue
        wants = {bytes(c.want) for c in batch.cells[version.id] if c.want is not None} - {GIVEN}
        count += await put_missing(
            target, await source.cache.get_many(sorted(wants)), str(version.identity or "")
        )
    return count


async def put_missing(target: Side, items: Mapping[bytes, bytes], model: str) -> int:
    """Puts into the target's cache what it does not have; how many entries."""
    known = await target.cache.get_many(list(items)) if items else {}
    missing = {key: vector for key, vector in items.items() if key not in known}
    if missing:
        await target.cache.put_many(missing, model)
    return len(missing)
