"""What a batch makes of the rows and cells it finds, worked out before anything is written. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from vectable.backends.refusals import key_exists
from vectable.core.cell import Cell
from vectable.core.key import KeyBytes
from vectable.core.rows import CellWrite, Delete, Outcome, Put, WriteBatch
from vectable.core.schema import Table
from vectable.errors import KeyExists

Values = tuple[Any, ...]
KEPT = bytes(bytearray(b"the vector stays as it is stored"))
"""Stands for a stored vector that was not read. Known by its identity."""
_EMPTY = Cell()


class Stored(NamedTuple):
    """`revision` None: the batch itself put the row, which has none yet."""

    revision: int | None


class Draft:
    """What the table will be: stored rows and cells, overlaid by what the batch has done so far."""

    def __init__(self, table: Table, batch: WriteBatch, rows: dict[KeyBytes, Stored]) -> None:
        self._table = table
        self._batch = batch
        self._rows = rows
        self._old: dict[str, dict[KeyBytes, Cell]] = {}
        self._new: dict[str, dict[KeyBytes, Cell]] = {}
        self.inserts: dict[KeyBytes, Values] = {}
        self.updates: dict[KeyBytes, Values] = {}
        self.deleted: set[KeyBytes] = set()

    @staticmethod
    def stored_cell(
        want: bytes | None, have: bytes | None, held: bool, error: str | None, attempts: int
    ) -> Cell:
        """A cell as found: `held` says that there is a vector."""
        return Cell(want, have, KEPT if held else None, error, attempts)

    @property
    def versions(self) -> Iterable[str]:
        """Those the batch has to do with."""
        return self._new.keys()

    def wanted_cells(self) -> dict[str, set[KeyBytes]]:
        """By version, the rows whose cells the batch may change: what becomes of a cell depends on what it
        is."""
        wanted: dict[str, set[KeyBytes]] = {}
        for put in self._batch.puts:
            for version in (*put.wants, *put.vectors):
                keys = wanted.setdefault(version, set())
                if put.key in self._rows:
                    keys.add(put.key)
        for cell in self._batch.cells:
            keys = wanted.setdefault(cell.version, set())
            if cell.key in self._rows:
                keys.add(cell.key)
        return wanted

    def found_cells(self, version: str, cells: dict[KeyBytes, Cell]) -> None:
        """Tells what is stored for one of `wanted_cells`."""
        self._old[version] = cells
        self._new[version] = {}

    def _cell(self, version: str, key: KeyBytes) -> Cell:
        cell = self._new[version].get(key)
        return cell if cell is not None else self._old[version].get(key, _EMPTY)

    def put(self, put: Put, values: Values) -> Outcome:
        """Replaces or makes a row. Raises KeyExists."""
        key, stored = put.key, self._rows.get(put.key)
        if put.revision is not None and (stored is None or stored.revision != put.revision):
            return "changed"
        if stored is not None and put.guard == "skip":
            return "skipped"
        if stored is not None and put.guard == "absent":
            raise self._key_exists(key)
        changes = self.inserts if stored is None or key in self.inserts else self.updates
        changes[key] = values
        self._rows[key] = Stored(None)
        for version, want in put.wants.items():
            vector = put.vectors.get(version)
            if want is not None and vector is not None:
                self._new[version][key] = Cell(want, want, vector)
            else:
                self._new[version][key] = self._cell(version, key).wanting(want)
        for version, vector in put.vectors.items():
            if version not in put.wants:
                self._new[version][key] = self._cell(version, key).given(vector)
        return "inserted" if stored is None else "replaced"

    def delete(self, delete: Delete) -> Outcome:
        """Removes a row and its cells."""
        key, stored = delete.key, self._rows.get(delete.key)
        if stored is None:
            return "missing"
        if delete.revision is not None and delete.revision != stored.revision:
            return "changed"
        del self._rows[key]
        if self.inserts.pop(key, None) is None:
            self.updates.pop(key, None)
            self.deleted.add(key)
        for cells in self._new.values():
            cells.pop(key, None)
        return "deleted"

    def write_cell(self, write: CellWrite) -> bool:
        """Changes a cell; whether that landed."""
        stored = self._rows.get(write.key)
        if stored is None or (write.revision is not None and write.revision != stored.revision):
            return False
        cell = write.onto(self._cell(write.version, write.key))
        if cell is None:
            return False
        self._new[write.version][write.key] = cell
        return True

    def _key_exists(self, first: KeyBytes) -> KeyExists:
        taken = [first]
        guarded = (put.key for put in self._batch.puts if put.guard == "absent")
        taken += [key for key in guarded if key in self._rows and key not in self.inserts]
        return key_exists(self._table, *taken)

    def changed_cells(self, version: str) -> tuple[list[Values], list[Values], list[Values]]:
        """Cells to add; to replace; and to replace without touching their vector. Each as key, want, have,
        vector (but for the last), error, attempts; by key."""
        old = self._old[version]
        new, whole, kept = [], [], []
        for key, cell in sorted(self._new[version].items(), key=lambda item: item[0]):
            before = old.get(key)
            # Cells never change in place: the same object is the same cell.
            if cell is before or (before is None and cell is _EMPTY):
                continue
            if before is None:
                new.append((key, cell.want, cell.have, cell.vector, cell.error, cell.attempts))
            elif cell.vector is KEPT:
                kept.append((key, cell.want, cell.have, cell.error, cell.attempts))
            else:
                whole.append((key, cell.want, cell.have, cell.vector, cell.error, cell.attempts))
        return new, whole, kept
