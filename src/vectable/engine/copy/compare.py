"""Comparing two moments of a table, one on each side: checksums first, rows where those differ, searches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from vectable.core.cell import Cell
from vectable.core.context import LOCAL
from vectable.core.key import KeyBytes
from vectable.core.predicate import TRUE
from vectable.core.query import Query
from vectable.core.rows import RecordBatch
from vectable.core.schema import Column, Table
from vectable.core.vectors import from_bytes
from vectable.engine.copy.checksum import Checksums, canonical, cell_bytes
from vectable.engine.copy.definition import version_ids
from vectable.engine.copy.rows import weight
from vectable.engine.search.hits import best_hits
from vectable.engine.search.prepare import Preparer
from vectable.interfaces import Backend, Position, View

PAGE = 1_000
_HEAVY = 32 << 20
"""Bytes a page should stay below."""
_SEARCHES = 5
"""Per vector column."""
_HITS = 10


def next_limit(limit: int, heaviest: int) -> int:
    """How many rows to read at once after a page of `heaviest` bytes."""
    return max(1, limit // 2) if heaviest > _HEAVY else min(PAGE, limit * 2)


@dataclass(frozen=True, slots=True)
class Moment:
    """One side's table as a view shows it."""

    backend: Backend
    table: Table
    view: View

    async def pages(self, after: KeyBytes | None = None, limit: int = PAGE) -> AsyncIterator[RecordBatch]:
        """Rows behind the key `after` with all they have, by key: `limit` at once to begin with, fewer where
        they are heavy."""
        where = self.backend.push(self.table, TRUE)
        columns = [c.name for c in self.table.stored_columns]
        versions = [v.id for _, v in self.table.versions]
        position = None if after is None else Position((), after)
        while True:
            batches = self.view.scan(where, columns, versions, after=position, limit=limit)
            read, heaviest = 0, 0
            async for batch in batches:
                if len(batch):
                    read, heaviest = read + len(batch), max(heaviest, weight(batch))
                    position = Position((), batch.keys[-1])
                    yield batch
                    await asyncio.sleep(0)  # backends may never suspend: others have their turn here
            if read < limit:
                return
            limit = next_limit(limit, heaviest)

    async def get(self, keys: list[KeyBytes]) -> RecordBatch:
        """Those of the rows that exist, with all they have."""
        names = [c.name for c in self.table.stored_columns]
        return await self.view.get(keys, names, [v.id for _, v in self.table.versions])


@dataclass(slots=True)
class Samples:
    """Vectors to search by, from all over the table."""

    table: Table
    _found: dict[str, list[bytes]] = field(default_factory=dict)

    def add(self, batch: RecordBatch) -> None:
        """Takes a few of the batch's."""
        for column in self.table.vector_columns:
            cells = batch.cells[column.version.id]
            ready = [c.vector for c in cells if c.state == "ready" and c.vector is not None]
            kept = self._found.setdefault(column.name, [])
            kept += [bytes(v) for v in ready[:: max(1, len(ready) // _SEARCHES)][:_SEARCHES]]
            if len(kept) > 4 * _SEARCHES:
                self._found[column.name] = kept[::2]

    def of(self, column: Column) -> list[bytes]:
        """At most `_SEARCHES` of the column's."""
        kept = self._found.get(column.name, [])
        return kept[:: max(1, len(kept) // _SEARCHES)][:_SEARCHES]


async def checksums(moment: Moment, step: Callable[[int], None], samples: Samples | None = None) -> Checksums:
    """Of everything in it; `step` hears how many rows have been read."""
    found = Checksums(moment.table)
    async with aclosing(moment.pages()) as pages:  # type: ignore[type-var]
        async for batch in pages:
            found.add(batch)
            if samples is not None:
                samples.add(batch)
            step(found.rows)
    return found


async def differing_keys(source: Moment, target: Moment, *, embedded_since: bool) -> list[KeyBytes]:
    """Keys whose rows or cells are not the same on both sides, those only one side has among them.
    `embedded_since`: a cell that the target has embedded by itself is no difference."""
    versions = version_ids(source.table, target.table)
    apart: list[KeyBytes] = []
    async with aclosing(source.pages()) as pages:  # type: ignore[type-var]
        async for batch in pages:
            theirs = await target.get(list(batch.keys))
            place = {key: i for i, key in enumerate(theirs.keys)}
            for i, key in enumerate(batch.keys):
                j = place.get(key)
                if j is None or not _same(batch, i, theirs, j, versions, embedded_since):
                    apart.append(key)
    where = target.backend.push(target.table, TRUE)
    async with aclosing(target.view.scan(where, ())) as found:  # type: ignore[type-var]
        async for batch in found:
            known = set((await source.view.get(list(batch.keys), ())).keys)
            apart += [key for key in batch.keys if key not in known]
            await asyncio.sleep(0)
    return apart


def _same(
    ours: RecordBatch, i: int, theirs: RecordBatch, j: int, versions: Mapping[str, str], embedded_since: bool
) -> bool:
    if any(canonical(ours.columns[n][i]) != canonical(theirs.columns[n][j]) for n in ours.columns):
        return False
    pairs = ((ours.cells[a][i], theirs.cells[b][j]) for a, b in versions.items())
    return all(cell_bytes(a) == cell_bytes(b) or (embedded_since and _went_on(a, b)) for a, b in pairs)


def _went_on(ours: Cell, theirs: Cell) -> bool:
    """Whether the destination has merely embedded what the source has not."""
    return ours.state != "ready" and theirs.state == "ready" and ours.want in (None, theirs.want)


async def compare_searches(source: Moment, target: Moment, samples: Samples) -> tuple[int, list[str]]:
    """How many searches were run on both sides, and the columns where one had other hits or scores."""
    count, apart = 0, []
    for column in source.table.vector_columns:
        for vector in samples.of(column):
            count += 1
            if await _hits(source, column.name, vector) != await _hits(target, column.name, vector):
                apart.append(column.name)
                break
    return count, apart


async def _hits(moment: Moment, column: str, vector: bytes) -> list[tuple[KeyBytes, float]]:
    query = Query.model_validate(
        {
            "select": [c.name for c in moment.table.key_columns],
            "similar": {"column": column, "to": from_bytes(vector).tolist()},
            "limit": _HITS,
        }
    )
    prepared = Preparer().prepare(moment.table, query, LOCAL, from_bytes(vector))
    found = await best_hits(moment.backend, moment.view, prepared, _HITS)
    return [(hit.key, hit.score) for hit in found.hits]
