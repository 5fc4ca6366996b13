"""What searches need but must not wait for: merged bases, the fast scan, named indexes, their files."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from vectable.core.schema import Column, Index
from vectable.engine.evaluate_recall import SHOULD_FIND, Measured, tune
from vectable.engine.resident.coded import Codes
from vectable.engine.resident.registry import ResidentRegistry
from vectable.engine.resident.resident import FAST_SCAN, Resident, Structure, merge
from vectable.engine.resident.segment import Base, save_base
from vectable.engine.resident.snapshot import Kept, Snapshot
from vectable.engine.search.choose import FLAT_ROWS
from vectable.interfaces import Progress

SAVED_ROWS = 5_000
"""A base of fewer rows is read again faster than its file is checked."""
CODED_ROWS = 4_096, 200_000
"""Fewer rows are scanned as fast without codes; of more, exact answers are asked for rarely."""
FILTER_USES = 16
"""So many searches with one filter, while the table does not change, pay for codes of the rows it keeps."""
_CODES = "codes"
_FILTER_CODES = "codes of a filter"
_NOTES = {field.name for field in fields(Measured)}
_REST = 3
"""A merge is followed by a rest so many times as long."""
MERGE_ROWS, MERGE_SHARE, DEAD_SHARE = 2_000, 0.1, 0.3


class Stopped(Exception):
    """The worker was told to stop in the middle of a build."""


class Upkeep:
    """Decides after a search what is due, and does it on the registry's worker. `directory` None: no files.
    `elsewhere`: kinds of indexes that the backend builds."""

    def __init__(
        self, registry: ResidentRegistry, directory: Path | None, elsewhere: Collection[str] = ()
    ) -> None:
        self._elsewhere = elsewhere
        self._registry = registry
        self._directory = directory

    def base_path(self, version: str, stale: bool) -> Path | None:
        """Where the base of a version is kept."""
        if self._directory is None:
            return None
        return self._directory / f"{version}{'.stale' if stale else ''}.base"

    def sweep(self, versions: Collection[str]) -> int:
        """Deletes the files of versions other than these, and what a crash left half written; how many."""
        if self._directory is None or not self._directory.is_dir():
            return 0
        count = 0
        for path in self._directory.iterdir():
            with contextlib.suppress(OSError):  # another process may sweep at the same time
                torn = path.suffix == ".tmp" and time.time() - path.stat().st_mtime > 3_600
                foreign = path.suffix in (".base", ".index") and path.name.split(".")[0] not in versions
                if torn or foreign:
                    path.unlink()
                    count += 1
        return count

    def structure_path(self, resident: Resident, name: str) -> Path | None:
        """Where an index over a version is kept: beside its base."""
        return None if resident.path is None else resident.path.with_suffix(f".{name}.index")

    def after_search(
        self,
        resident: Resident,
        snapshot: Snapshot,
        column: Column,
        indexes: tuple[Index, ...],
        kept: Kept | None = None,
    ) -> None:
        """Asks the worker for what has become due. Costs a microsecond when nothing has."""
        if _merge_due(snapshot):
            if time.monotonic() >= resident.rest_until:
                self._ask(resident, "merge", self._merge)
            return
        base = snapshot.base
        if kept is not None and len(base) >= FLAT_ROWS:
            self._want_filter_codes(resident, snapshot, kept)
        unsaved = (
            len(base) >= SAVED_ROWS and not base.mapped and ("saved", base.digest) not in resident.refused
        )
        if unsaved and resident.path is not None:
            self._ask(resident, "save", self._save)
        if CODED_ROWS[0] <= len(base) <= CODED_ROWS[1]:
            self._want_codes(resident, base)
        if len(base) < FLAT_ROWS or column.index == "none":
            return
        if base.matrix.shape[1] % 2 == 0:
            self._want(resident, base, FAST_SCAN, FAST_SCAN, {})
        for index in indexes:
            if index.version == resident.version.id and index.method not in (None, "flat", *self._elsewhere):
                self._want(resident, base, index.id, str(index.method), index.parameters)

    def _want_codes(self, resident: Resident, base: Base) -> None:
        held = resident.codes
        if (held is None or held.digest != base.digest) and (_CODES, base.digest) not in resident.refused:
            self._ask(resident, _CODES, self._encode)

    def _want_filter_codes(self, resident: Resident, snapshot: Snapshot, kept: Kept) -> None:
        kept.uses += 1
        due = kept.uses % FILTER_USES == 0 and kept.uses <= 4 * FILTER_USES and kept.codes is None
        if due and CODED_ROWS[0] <= kept.count <= min(CODED_ROWS[1], snapshot.size // 2):
            self._ask(resident, _FILTER_CODES, lambda r, _: self._encode_kept(r, snapshot, kept))

    def _encode_kept(self, resident: Resident, snapshot: Snapshot, kept: Kept) -> None:
        base, metric = snapshot.base, resident.version.metric
        positions = kept.positions[: int(np.searchsorted(kept.positions, len(base)))]
        room = positions.size * base.matrix.shape[1]
        if resident.snapshot is not snapshot or not self._registry.has_room(5 * room):
            return
        scale = base.scale[positions] if metric == "cosine" else None
        scan = self._registry.library.codes(base.matrix[positions], scale, metric)
        if scan is not None:
            kept.codes = Codes(scan, base.digest, positions)

    def _encode(self, resident: Resident, progress: Progress) -> None:
        snapshot = resident.snapshot
        if snapshot is None:
            return
        base, metric = snapshot.base, resident.version.metric
        scan = None
        # Codes are a convenience: nothing that is searched makes room for them.
        if self._registry.has_room(base.matrix.size):
            scale = base.scale if metric == "cosine" else None
            scan = self._registry.library.codes(base.matrix, scale, metric)
        if scan is None:
            resident.refused.add((_CODES, base.digest))
            return
        now = resident.snapshot
        if now is not None and now.base.digest == base.digest:
            resident.codes = Codes(scan, base.digest)

    def _want(self, resident: Resident, base: Base, name: str, kind: str, parameters: dict[str, int]) -> None:
        held = resident.structures.get(name)
        if (held is not None and held.digest == base.digest) or (name, base.digest) in resident.refused:
            return
        self._ask(resident, name, lambda r, p: self._build(r, name, kind, parameters, p))

    def _ask(self, resident: Resident, what: str, work: Callable[[Resident, Progress], None]) -> None:
        if what in resident.busy:
            return
        resident.busy.add(what)

        def job(stop: threading.Event) -> None:
            def progress(done: int, total: int) -> None:
                if stop.is_set():
                    raise Stopped

            try:
                work(resident, progress)
            except (Stopped, OSError, MemoryError):
                # Searches stay right without it, and it becomes due again.
                pass
            finally:
                resident.busy.discard(what)

        self._registry.background.submit(job)

    def _save(self, resident: Resident, progress: Progress) -> None:
        snapshot = resident.snapshot
        if snapshot is not None:
            self._save_base(resident, snapshot.base)

    def _save_base(self, resident: Resident, base: Base) -> None:
        """Files are a convenience: a full or read-only disk only costs time at the next start."""
        if resident.path is None or len(base) < SAVED_ROWS:
            return
        resident.refused.add(("saved", base.digest))
        with contextlib.suppress(OSError):
            resident.path.parent.mkdir(parents=True, exist_ok=True)
            save_base(base, resident.path, resident.key.identity)

    def _merge(self, resident: Resident, progress: Progress) -> None:
        started = time.monotonic()
        self.merge_now(resident, progress)
        now = time.monotonic()
        resident.rest_until = now + min(_REST * (now - started), 60.0)

    def merge_now(self, resident: Resident, progress: Progress) -> None:
        """One sorted base of all live rows, with every structure built anew before it is put in place."""
        snapshot, absent = resident.absent_now()
        if snapshot is None:
            return
        merged = merge(snapshot, absent)
        structures: dict[str, Structure] = {}
        if len(merged.base) >= FLAT_ROWS:
            for name, old in list(resident.structures.items()):
                made = self.measured(resident, merged.base, old.index.kind, dict(old.parameters), progress)
                if made is not None:
                    structures[name] = made
        if not resident.rebase(merged, structures):
            return
        resident.refused = {r for r in resident.refused if r[1] == merged.base.digest}
        if not self._fits(resident):
            resident.structures = {}
            if not self._fits(resident):
                resident.forget()
                return
        self._save_base(resident, merged.base)
        for name, structure in structures.items():
            self._save_structure(resident, name, structure)

    def _fits(self, resident: Resident) -> bool:
        fits = self._registry.fits(resident)
        self._registry.settle(resident)
        return fits

    def _build(
        self, resident: Resident, name: str, kind: str, parameters: dict[str, int], progress: Progress
    ) -> None:
        snapshot = resident.snapshot
        # Many rows may have changed since it was asked for, and have no vector for now.
        if snapshot is not None and len(snapshot.base):
            self.build_now(resident, snapshot, name, kind, parameters, progress)

    def build_now(
        self,
        resident: Resident,
        snapshot: Snapshot,
        name: str,
        kind: str,
        parameters: dict[str, int],
        progress: Progress,
    ) -> Structure | None:
        """The structure, from its file or built; None when it is not good enough to serve."""
        base = snapshot.base
        made = self._loaded(resident, name, base, kind, parameters)
        fresh = made is None
        if made is None:
            made = self.measured(resident, base, kind, parameters, progress)
        if made is None or not self._registry.fits(resident, made.index.nbytes):
            resident.refused.add((name, base.digest))
            return None
        now = resident.snapshot
        if now is not None and now.base.digest == base.digest:
            resident.structures = {**resident.structures, name: made}
        self._registry.settle(resident)
        if fresh:
            self._save_structure(resident, name, made)
        return made

    def measured(
        self, resident: Resident, base: Base, kind: str, parameters: dict[str, int], progress: Progress
    ) -> Structure | None:
        """Built over the base and measured; None for a fast scan that does not find enough."""
        version = resident.version
        library = self._registry.library
        scale = base.scale if version.metric == "cosine" else None
        index = library.build(kind, base.matrix, scale, version.metric, parameters, base.digest, progress)
        found = tune(base, version.metric, library, index)
        if kind == FAST_SCAN and min(found.recall, found.filtered) < SHOULD_FIND:
            return None
        index.notes.update(asdict(found))
        return Structure(index, base.digest, parameters=parameters, **asdict(found))

    def _loaded(
        self, resident: Resident, name: str, base: Base, kind: str, parameters: dict[str, int]
    ) -> Structure | None:
        path = self.structure_path(resident, name)
        index = None if path is None else self._registry.library.load(str(path), base.digest)
        if index is None or index.kind != kind or index.notes.keys() != _NOTES:
            return None
        return Structure(index, base.digest, parameters=parameters, **index.notes)

    def _save_structure(self, resident: Resident, name: str, structure: Structure) -> None:
        path = self.structure_path(resident, name)
        if path is not None and structure.index.size >= SAVED_ROWS:
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                structure.index.save(str(path))


def _merge_due(snapshot: Snapshot) -> bool:
    size, base = snapshot.size, len(snapshot.base)
    if snapshot.delta.length > max(MERGE_ROWS, MERGE_SHARE * base):
        return True
    return size > MERGE_ROWS and snapshot.dead > DEAD_SHARE * size
