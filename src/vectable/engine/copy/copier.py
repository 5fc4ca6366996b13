"""Copying tables: checked for conflicts all at once, copied one by one, with indexes and cache entries."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from vectable.core.context import LOCAL
from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.schema import Table, new_id
from vectable.engine.copy.compare import Moment, differing_keys
from vectable.engine.copy.definition import index_for, same_shape, version_ids
from vectable.engine.copy.record import CopyRecord, Records
from vectable.engine.copy.result import Copied, CopiedTable
from vectable.engine.copy.rows import copying
from vectable.engine.copy.side import Report, Side
from vectable.engine.copy.table import TableCopy, compare, put_missing, write_to
from vectable.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    MarkExpired,
    TableNotFound,
    Unsupported,
    VectableError,
)

_CHUNK = 500


async def copy_tables(source: Side, target: Side, names: Sequence[str] | None, report: Report) -> Copied:
    """Copies the tables of those names (None: all, and the whole vector cache). Raises TableNotFound,
    AlreadyExists for a table that is there and another one, Conflict, Unsupported: before anything is copied
    where that can be seen."""
    if await _same(source, target):
        raise InvalidInput(
            "the source and the destination are the same database", hint="name another destination"
        )
    started = time.monotonic()
    result = Copied(source.url, target.url)
    if names is None:
        tables = await source.catalog.list(LOCAL)
    else:
        tables = [await source.catalog.get(LOCAL, name) for name in dict.fromkeys(names)]
    copier = _Copier(source, target, report, everything=names is None)
    for table in tables:
        await copier.check(table)
    for table in tables:
        result.tables.append(await copier.copy(table))
    if names is None:
        result.cached = await _copy_cache(source, target, report)
    result.seconds = round(time.monotonic() - started, 3)
    return result


async def _same(one: Side, other: Side) -> bool:
    """Whether both are one database. A restored backup has the identity of the original, so where those are
    equal the answer is whether one shows what was written to the other."""
    if one.identity != other.identity:
        return False
    probe = f"copy/probe/{new_id()}"
    await other.state.commit(puts={probe: b"{}"})
    try:
        return bool(await one.state.get([probe]))
    finally:
        await other.state.commit(deletes=[probe])


class _Copier:
    def __init__(self, source: Side, target: Side, report: Report, *, everything: bool) -> None:
        self._source = source
        self._target = target
        self._report = report
        self._records = Records(target.state, source.identity)
        self._tables = TableCopy(source, target, self._records, report, cache=not everything)

    async def check(self, table: Table) -> tuple[CopyRecord | None, Table | None]:
        """The record of an earlier copy and the table it made in the destination. Raises AlreadyExists for
        another table of that name, Unsupported for one the destination cannot hold."""
        metrics = self._target.backend.capabilities.metrics
        for column, version in table.versions:
            if version.metric not in metrics:
                raise Unsupported(f"the destination has no metric {version.metric.value} ({column.name!r})")
        record = await self._records.find(table.id)
        there = await self._target.catalog.by_id(record.table.id if record else table.id)
        if record is not None and record.done and there is None:
            record = None  # it was dropped there since
        named = await self._named(table)
        if there is None and named is not None:
            raise _another(table, self._target)
        if record is None and there is not None and named is not None and named.id != there.id:
            raise _another(table, self._target)
        if record is None and there is not None and named is None:
            there = None  # the same table under another name: this one gets ids of its own
        return record, there

    async def _named(self, table: Table) -> Table | None:
        try:
            return await self._target.catalog.get(LOCAL, f"{table.namespace}.{table.name}")
        except TableNotFound:
            return None

    async def copy(self, table: Table) -> CopiedTable:
        async with self._target.leases.hold(f"copy/{table.id}") as lease:
            if lease is None:
                raise Conflict(
                    f"another process is copying table {table.full_name!r} to {self._target.url}",
                    hint="wait for it; one that was killed is noticed within 30 seconds",
                )
            record, there = await self.check(table)
            if there is None:
                fresh = await self._target.catalog.by_id(table.id) is not None
                result, record = await self._tables.run(table, record, fresh)
                await self._publish(record)
            else:
                result = await self._again(table, there, record)
            await self._indexes(table, result)
            return result

    async def _publish(self, record: CopyRecord) -> None:
        """Into the destination's catalogue, with the record that says so, in one commit."""
        notes = {self._records.key(record.source.id): Records.written(record)}
        for kind, payload in await self._source.jobs.outstanding(record.source.id):
            if kind == "refresh" and payload.get("backfill"):
                owed, note = self._target.jobs.owe(kind, record.table.full_name, _renamed(payload, record))
                notes[owed] = note
        try:
            await self._target.catalog.adopt(record.table, notes)
        except AlreadyExists:
            raise _another(record.table, self._target) from None

    async def _again(self, table: Table, there: Table, record: CopyRecord | None) -> CopiedTable:
        """A table that is there: verified; brought up to date where only the source has changed since."""
        known = record.source if record else table
        if not (same_shape(known, table, ids=True) and same_shape(table, there, ids=False)):
            raise AlreadyExists(
                f"table {table.full_name!r} in {self._target.url} has other columns than the source has now",
                hint=_WAY_OUT,
            )
        result = CopiedTable(table.full_name, "verified")
        if there.full_name != table.full_name:
            result.notes.append(f"it is called {there.full_name!r} there")
        keys = await self._differences(table, there, record, result)
        if not keys:
            return result
        result.status, result.changed = "caught up", len(keys)
        async with self._source.catalog.view(table) as view:
            ours = Moment(self._source.backend, table, view)
            for start in range(0, len(keys), _CHUNK):
                await self._bring(ours, there, keys[start : start + _CHUNK])
            async with self._target.catalog.view(there) as theirs:
                target = Moment(self._target.backend, there, theirs)
                await compare(ours, target, self._report, result)
                left = await differing_keys(ours, target, embedded_since=True)
                mark = theirs.mark.value
            if left:
                keys_left = f"{len(left):,} rows"
                raise Conflict(f"{keys_left} of table {table.full_name!r} differ still", hint="copy again")
            done = CopyRecord(
                source=table, table=there, mark=view.mark.value, rows_done=True, done=True, target_mark=mark
            )
            await self._records.save(done)
        return result

    async def _differences(
        self, table: Table, there: Table, record: CopyRecord | None, result: CopiedTable
    ) -> list[KeyBytes]:
        """Keys to copy again. Raises AlreadyExists when the destination's rows have been changed there."""
        async with (
            self._source.catalog.view(table) as ours,
            self._target.catalog.view(there) as theirs,
        ):
            source = Moment(self._source.backend, table, ours)
            target = Moment(self._target.backend, there, theirs)
            if not await compare(source, target, self._report, result):
                return []
            keys = await differing_keys(source, target, embedded_since=True)
            touched = await self._touched(target, record)
            own = [key for key in keys if touched is None or key in touched]
            if own:
                raise AlreadyExists(
                    f"table {table.full_name!r} in {self._target.url} is different: "
                    f"{len(own):,} of its rows were not copied from here as they are",
                    hint=_WAY_OUT,
                )
            return keys

    @staticmethod
    async def _touched(target: Moment, record: CopyRecord | None) -> set[KeyBytes] | None:
        """Keys changed in the destination since they were copied; None where that cannot be told."""
        if record is None or record.target_mark is None:
            return None
        found: set[KeyBytes] = set()
        try:
            async for keys in target.view.changes(Mark(record.target_mark)):
                found.update(keys)
        except MarkExpired:
            return None
        return found

    async def _bring(self, ours: Moment, there: Table, keys: list[KeyBytes]) -> None:
        """The rows of `keys` as the source has them, unless somebody changes them there meanwhile."""
        batch = await ours.get(keys)
        async with self._target.catalog.view(there) as view:
            theirs = await view.get(keys, ())
        revisions = dict(zip(theirs.keys, theirs.revisions, strict=True))
        gone = set(keys) - set(batch.keys)
        write = copying(
            batch,
            version_ids(ours.table, there),
            there.generation,
            deletes=[key for key in keys if key in gone and key in revisions],
            revisions=revisions,
        )
        await write_to(self._target, there, write)

    async def _indexes(self, table: Table, result: CopiedTable) -> None:
        """The source's indexes that the destination lacks, and those an earlier copy left unbuilt."""
        indexer, jobs = self._target.indexer, self._target.jobs
        record = await self._records.find(table.id)
        there = await self._target.catalog.by_id(record.table.id if record else table.id)
        if there is None:
            return
        names = {i.name for i in there.indexes}
        for index in table.indexes:
            if index.name in names:
                continue
            try:
                await indexer.define(there.id, index_for(index, table, there))
            except VectableError as error:
                result.notes.append(f"index {index.name!r} was left out: {error}")
        await jobs.resume(kinds=("index",))
        for unfinished in await jobs.unfinished():
            if unfinished.job.kind != "index" or unfinished.payload.get("table") != there.id:
                continue
            async for job in jobs.events(unfinished.job.id):
                self._report("index", table.full_name, job.done, job.total)
            if job.status != "done":
                result.notes.append(f"an index was not built: {job.error or job.status}")


def _renamed(payload: dict[str, Any], record: CopyRecord) -> dict[str, Any]:
    """A job's payload under the destination's ids."""
    columns = zip(record.source.columns, record.table.columns, strict=True)
    known = {ours.id: theirs.id for ours, theirs in columns}
    return {**payload, "table": record.table.id, "column": known.get(payload["column"], payload["column"])}


_WAY_OUT = "drop or rename it there to copy the table anew, or name another destination"


def _another(table: Table, target: Side) -> AlreadyExists:
    return AlreadyExists(f"there is another table {table.full_name!r} in {target.url}", hint=_WAY_OUT)


async def _copy_cache(source: Side, target: Side, report: Report) -> int:
    """Every cache entry; how many the target did not have."""
    total, _ = await source.cache.size()
    after, seen, added = b"", 0, 0
    while page := await source.cache.scan(after):
        by_model: dict[str, dict[bytes, bytes]] = {}
        for key, vector, model in page:
            by_model.setdefault(model, {})[bytes(key)] = bytes(vector)
        for model, items in by_model.items():
            added += await put_missing(target, items, model)
        after, seen = bytes(page[-1][0]), seen + len(page)
        report("cache", "", min(seen, total), total)
    return added
