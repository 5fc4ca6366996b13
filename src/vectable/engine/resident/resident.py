"""One version's rows held in memory: the only place where a snapshot is made from another one.

Two locks: `gate` lets one reader at a time open a view and bring the snapshot up to its mark, so snapshots
only ever move forward; `_lock` guards the short steps that replace the snapshot, the worker's too.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vectable.core.cell import Cell
from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.rows import RecordBatch
from vectable.core.schema import ColumnType, Version
from vectable.core.vectors import stack
from vectable.engine.resident.coded import Codes
from vectable.engine.resident.columns import FilterColumn
from vectable.engine.resident.delta import Delta
from vectable.engine.resident.keys import PackedKeys
from vectable.engine.resident.recent import RecentRows
from vectable.engine.resident.segment import Base, make_base
from vectable.engine.resident.snapshot import Mask, Snapshot
from vectable.engine.vectorized import ResidentColumn, build_column
from vectable.interfaces import VectorIndex

FAST_SCAN = "fast-scan"


class GivenUp(Exception):
    """The rows were let go of while they were being brought up to date. Never leaves the engine."""


class Behind(Exception):
    """More rows have changed than the caller would wait for. Never leaves the engine."""


@dataclass(frozen=True, slots=True)
class ResidentKey:
    """What is held: a version of a column, with or without its outdated vectors. Searchers of one `owner` (a
    directory, or a backend in memory) share it."""

    database: str
    table: str
    version: str
    stale: bool
    owner: str = ""

    @property
    def identity(self) -> str:
        """Names the contents of files, the same in every process."""
        return f"{self.database}/{self.table}/{self.version}/{'stale' if self.stale else 'fresh'}"


@dataclass(frozen=True, slots=True)
class Structure:
    """An index over a base, and how well it was measured to find that base's own rows."""

    index: VectorIndex
    digest: str
    """Of the base whose positions it answers with."""
    recall: float
    """Share of the true 10 nearest found, over sampled rows."""
    filtered: float
    """The same under filters, the worst one."""
    candidates: int
    """How many to nominate for k = 10."""
    filtered_candidates: int
    """The same under a filter."""
    effort: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Gate:
    """Mutual exclusion of readers: of threads where reads never suspend, else of tasks of one loop."""

    def __init__(self, inline: bool) -> None:
        self._threads = threading.Lock() if inline else None
        self._tasks = None if inline else asyncio.Lock()

    async def __aenter__(self) -> None:
        if self._threads is not None:
            self._threads.acquire()  # held across awaits that never suspend
        elif self._tasks is not None:
            await self._tasks.acquire()

    async def __aexit__(self, *_: object) -> None:
        if self._threads is not None:
            self._threads.release()
        elif self._tasks is not None:
            self._tasks.release()


class Resident:
    """The rows of one version. `path` is where its base segment is kept (None: nowhere)."""

    def __init__(
        self,
        key: ResidentKey,
        version: Version,
        path: Path | None,
        inline: bool,
        recent: RecentRows | None = None,
    ) -> None:
        self.key = key
        self.version = version
        self.path = path
        self.gate = Gate(inline)
        self.snapshot: Snapshot | None = None
        self.structures: dict[str, Structure] = {}
        self.codes: Codes | None = None
        self.busy: set[str] = set()
        """What the background worker has been asked to do here."""
        self.refused: set[tuple[str, str]] = set()
        """(structure, digest of a base): measured, and not good enough to serve."""
        self.rest_until = 0.0
        """On the monotonic clock: no merge before, so that merging never takes most of the machine."""
        self.moving = False
        """The table was found changed after a search: the next one looks before."""
        self.columns: dict[str, FilterColumn] = {}
        """The filter columns the snapshot has."""
        self.recent = recent
        """Rows of hits, held where to fetch them is a round trip."""
        self._lock = threading.Lock()
        self._delta = Delta(version.dimensions)
        self._delta_at: dict[KeyBytes, int] = {}
        self._absent: set[KeyBytes] = set()
        self._columns_nbytes = 0

    @property
    def nbytes(self) -> int:
        """Memory held, mapped files included."""
        snapshot = self.snapshot
        if snapshot is None:
            return 0
        indexes = sum(s.index.nbytes for s in self.structures.values())
        rows = snapshot.base.nbytes + self._delta.nbytes + len(self._absent) * 100
        codes = self.codes
        coded = 0 if codes is None else codes.scan.nbytes
        recent = 0 if self.recent is None else self.recent.nbytes
        return rows + self._columns_nbytes + indexes + coded + snapshot.coded_nbytes + recent

    def servable(self, cell: Cell) -> bool:
        """Whether search may use the cell's vector."""
        return cell.servable(self.key.stale)

    def install(self, base: Base) -> None:
        """Starts over from a base: no delta, no filter columns."""
        with self._lock:
            self._delta, self._delta_at = Delta(self.version.dimensions), {}
            self._absent = set(base.absent)
            self.columns, self._columns_nbytes = {}, 0
            self.structures = {n: s for n, s in self.structures.items() if s.digest == base.digest}
            if self.codes is not None and self.codes.digest != base.digest:
                self.codes = None
            self.snapshot = Snapshot(
                base.mark, base, self._delta.view(), None, len(base), len(base) + len(self._absent), {}
            )
            if self.recent is not None:
                self.recent.start(base.mark)

    def forget(self) -> None:
        """Gives the memory back, once the searches that run are done."""
        with self._lock:
            self.snapshot = None
            self.structures, self.columns, self.codes = {}, {}, None
            if self.recent is not None:
                self.recent.start(None)
            self._delta, self._delta_at, self._absent = Delta(self.version.dimensions), {}, set()

    def drop_recent(self) -> None:
        """Gives up the rows of hits: they only save time."""
        with self._lock:
            if self.recent is not None and self.snapshot is not None:
                self.recent.start(self.snapshot.mark)

    def apply(self, mark: Mark, asked: Sequence[KeyBytes], batches: Sequence[RecordBatch]) -> None:
        """Moves the snapshot on to `mark`: every key of `asked` (each once) is now as in `batches` (which
        hold the columns of `self.columns` by name), or deleted where they lack it."""
        with self._lock:
            before = self._there()
            found = {key: (batch, i) for batch in batches for i, key in enumerate(batch.keys)}
            dead = [p for p in map(self._position, asked) if p >= 0]
            fresh: list[KeyBytes] = []
            vectors: list[bytes] = []
            for key in asked:
                self._absent.discard(key)
                if key not in found:
                    continue
                batch, i = found[key]
                cell = batch.cells[self.version.id][i]
                if cell.vector is not None and self.servable(cell):
                    fresh.append(key)
                    vectors.append(cell.vector)
                else:
                    self._absent.add(key)
            columns = {
                i: before.columns[i].extended([found[k][0].columns[c.name][found[k][1]] for k in fresh])
                for i, c in self.columns.items()
            }
            self._append(fresh, vectors, len(before.base))
            if self.recent is not None:
                self.recent.move(mark, asked)
            self._swap(before, mark, dead, columns)

    def _there(self) -> Snapshot:
        if self.snapshot is None:
            raise GivenUp
        return self.snapshot

    def _position(self, key: KeyBytes) -> int:
        """Where the key was last seen, live or dead; -1 where it never was."""
        at = self._delta_at.get(key, -1)
        return at if at >= 0 else self._there().base.keys.find(key)

    def _append(self, keys: Sequence[KeyBytes], vectors: Sequence[bytes], start: int) -> None:
        start += len(self._delta)
        self._delta.append(keys, stack(vectors, self.version.dimensions))
        self._delta_at.update((key, start + i) for i, key in enumerate(keys))

    def _swap(
        self, before: Snapshot, mark: Mark, dead: Sequence[int], columns: Mapping[str, ResidentColumn]
    ) -> None:
        delta = self._delta.view()
        size = len(before.base) + delta.length
        live: Mask | None = None
        if dead or before.live is not None:
            live = np.ones(size, np.bool_)
            if before.live is not None:
                live[: before.size] = before.live
            live[list(dead)] = False
        searchable = size if live is None else int(np.count_nonzero(live))
        rows = searchable + len(self._absent)
        self.snapshot = Snapshot(mark, before.base, delta, live, searchable, rows, columns)

    def drop_column(self, id: str) -> None:
        """Forgets a filter column that the table no longer has."""
        with self._lock:
            snapshot = self._there()
            self.columns.pop(id, None)
            kept = {i: c for i, c in snapshot.columns.items() if i != id}
            self.snapshot = replace(snapshot, columns=kept)

    def add_columns(self, mark: Mark, values: Mapping[FilterColumn, Mapping[KeyBytes, Any]]) -> bool:
        """Holds more filter columns, given by key as they are at `mark`; False when the rows moved on."""
        with self._lock:
            snapshot = self._there()
            if snapshot.mark != mark:
                return False
            keys = [*snapshot.base.keys, *self._delta.keys]
            built = {c.id: build_column([of.get(k) for k in keys], c.type) for c, of in values.items()}
            self.columns.update((c.id, c) for c in values)
            self.snapshot = replace(snapshot, columns={**snapshot.columns, **built})
            self._columns_nbytes += sum(c.nbytes for c in built.values())
            return True

    def absent_now(self) -> tuple[Snapshot | None, list[KeyBytes]]:
        """The snapshot and, of the same moment, the keys of rows without a servable vector."""
        with self._lock:
            return self.snapshot, list(self._absent)

    def rebase(self, merged: Merged, structures: Mapping[str, Structure]) -> bool:
        """Puts a merged base in place of the one it was made from, keeping what has changed since. False when
        the rows were loaded anew meanwhile."""
        with self._lock:
            now, then = self.snapshot, merged.source
            if now is None or now.base is not then.base or now.size < then.size:
                return False
            kept = now.delta.length - then.delta.length
            tail = slice(then.delta.length, now.delta.length)
            delta = Delta(self.version.dimensions)
            delta.append(list(now.delta.keys[tail]), now.delta.matrix[tail])
            count = len(merged.base)
            self._delta, self._delta_at = delta, {k: count + i for i, k in enumerate(delta.keys)}
            live = np.ones(count + kept, np.bool_)
            if now.live is not None:
                live[:count] = now.live[merged.order]
                live[count:] = now.live[then.size :]
            columns = {
                i: _reordered(c, self.columns[i].type, merged, then.size) for i, c in now.columns.items()
            }
            self.structures, self.codes = dict(structures), None
            self.snapshot = replace(
                now,
                base=merged.base,
                delta=delta.view(),
                live=None if live.all() else live,
                columns=columns,
            )
            return True


def _reordered(column: ResidentColumn, type_: ColumnType, merged: Merged, tail: int) -> ResidentColumn:
    values = column.values()
    return build_column([*(values[i] for i in merged.order.tolist()), *values[tail:]], type_)


@dataclass(frozen=True, slots=True)
class Merged:
    """A new base, the snapshot it was made from, and where in that snapshot each of its rows was."""

    base: Base
    source: Snapshot
    order: np.ndarray[Any, np.dtype[np.int64]]


def merge(snapshot: Snapshot, absent: Sequence[KeyBytes]) -> Merged:
    """One sorted base of everything that is live in `snapshot`."""
    positions = np.arange(snapshot.size) if snapshot.live is None else np.flatnonzero(snapshot.live)
    keys = [snapshot.key_at(p) for p in positions.tolist()]
    ranks = sorted(range(len(keys)), key=keys.__getitem__)
    order = positions[ranks].astype(np.int64)
    matrix = snapshot.vectors(order)
    base = make_base(snapshot.mark, PackedKeys.of([keys[i] for i in ranks]), matrix, absent)
    return Merged(base, snapshot, order)
