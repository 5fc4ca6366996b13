"""Bringing a resident version up to a view: from its file, by a scan, or by the changes since its mark."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from vectable.core.key import KeyBytes
from vectable.core.predicate import TRUE
from vectable.core.schema import Table
from vectable.core.vectors import Matrix, stack
from vectable.engine.resident.columns import FilterColumn, named_again
from vectable.engine.resident.keys import PackedKeys
from vectable.engine.resident.resident import Behind, GivenUp, Resident
from vectable.engine.resident.segment import load_base, make_base
from vectable.engine.resident.snapshot import Snapshot
from vectable.errors import MarkExpired
from vectable.interfaces import Backend, View

_GET = 1_000
_RELOAD_FLOOR = 5_000
Step: TypeAlias = Callable[[Callable[[], None]], Awaitable[None]]
"""Runs what only computes, and may take long, where it holds nobody up."""


async def refresh(
    resident: Resident,
    backend: Backend,
    view: View,
    table: Table,
    wanted: Sequence[FilterColumn],
    step: Step,
    most: int | None = None,
) -> Snapshot:
    """The snapshot at the view's mark, with the wanted filter columns. The caller holds the gate. Raises
    Behind where more than `most` rows, held already, have changed; then nothing has been done."""
    if resident.snapshot is None:
        await _open(resident, backend, view, table, step)
    snapshot = resident.snapshot
    if snapshot is not None and snapshot.mark != view.mark:
        await _catch_up(resident, backend, view, table, step, most)
    missing = [c for c in wanted if c.id not in resident.columns]
    if missing:
        await _load_columns(resident, backend, view, table, missing)
    if resident.snapshot is None:
        raise GivenUp
    return resident.snapshot


async def _open(resident: Resident, backend: Backend, view: View, table: Table, step: Step) -> None:
    if resident.path is not None:
        base = load_base(resident.path, resident.key.identity, resident.version.dimensions)
        if base is not None:
            resident.install(base)
            return
    await _load(resident, backend, view, table, step)


async def _load(resident: Resident, backend: Backend, view: View, table: Table, step: Step) -> None:
    """Everything, by a scan in key order."""
    version = resident.version.id
    keys: list[KeyBytes] = []
    absent: list[KeyBytes] = []
    rows = _Rows(await view.count(backend.push(table, TRUE)), resident.version.dimensions)
    async for batch in view.scan(backend.push(table, TRUE), (), (version,)):
        vectors: list[bytes] = []
        for key, cell in zip(batch.keys, batch.cells[version], strict=True):
            if cell.vector is not None and resident.servable(cell):
                keys.append(key)
                vectors.append(cell.vector)
            else:
                absent.append(key)
        rows.add(stack(vectors, resident.version.dimensions))

    def install() -> None:
        found, matrix = keys, rows.matrix
        if any(a >= b for a, b in pairwise(found)):
            found, matrix = _sorted(found, matrix)
        resident.install(make_base(view.mark, PackedKeys.of(found), matrix, absent))

    await step(install)


class _Rows:
    """A matrix filled piece by piece, so that loading needs the memory only once."""

    def __init__(self, expected: int, dimensions: int) -> None:
        self._room: Matrix = np.empty((expected, dimensions), np.float32)
        self._used = 0

    def add(self, part: Matrix) -> None:
        end = self._used + len(part)
        if end > len(self._room):
            larger = np.empty((end + end // 4, self._room.shape[1]), np.float32)
            larger[: self._used] = self._room[: self._used]
            self._room = larger
        self._room[self._used : end] = part
        self._used = end

    @property
    def matrix(self) -> Matrix:
        return self._room[: self._used]


def _sorted(keys: list[KeyBytes], matrix: Matrix) -> tuple[list[KeyBytes], Matrix]:
    """By key, the last of equal ones: a scan outside any snapshot may show a row twice."""
    last = {key: i for i, key in enumerate(keys)}
    ordered = sorted(last)
    return ordered, matrix[[last[k] for k in ordered]]


async def _catch_up(
    resident: Resident, backend: Backend, view: View, table: Table, step: Step, most: int | None
) -> None:
    snapshot = resident.snapshot
    if snapshot is None:
        return
    limit = max(_RELOAD_FLOOR, snapshot.rows // 2)
    changed = await _changed(view, snapshot, limit if most is None else min(most, limit))
    if changed is None:
        if most is not None:
            raise Behind
        await _load(resident, backend, view, table, step)
        return
    for column in list(resident.columns.values()):
        present = named_again(column, table)
        if present is None:
            resident.drop_column(column.id)
        else:
            resident.columns[column.id] = present
    names = [c.name for c in resident.columns.values()]
    asked = list(changed)
    batches = [
        await view.get(asked[at : at + _GET], names, (resident.version.id,))
        for at in range(0, len(asked), _GET)
    ]
    await step(lambda: resident.apply(view.mark, asked, batches))


async def _changed(view: View, snapshot: Snapshot, most: int) -> dict[KeyBytes, None] | None:
    """Keys of the rows that changed since; None for more than `most`, or where they cannot be told."""
    changed: dict[KeyBytes, None] = {}
    try:
        async with aclosing(view.changes(snapshot.mark)) as found:  # type: ignore[type-var]
            async for keys in found:
                changed.update(dict.fromkeys(keys))
                if len(changed) > most:
                    return None
    except MarkExpired:
        return None
    return changed


async def _load_columns(
    resident: Resident, backend: Backend, view: View, table: Table, missing: Sequence[FilterColumn]
) -> None:
    values: dict[FilterColumn, dict[KeyBytes, Any]] = {c: {} for c in missing}
    async for batch in view.scan(backend.push(table, TRUE), [c.name for c in missing]):
        for column, of in values.items():
            of.update(zip(batch.keys, batch.columns[column.name], strict=True))
    resident.add_columns(view.mark, values)
