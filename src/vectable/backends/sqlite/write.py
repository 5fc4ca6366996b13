"""Write batches: planned over what is stored, then written with few prepared statements."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from vectable.backends.refusals import changed, gone, key_exists
from vectable.backends.sqlite.layout import Layout, cells_name
from vectable.backends.sqlite.standing import Standing, make_mark, standing_of
from vectable.core.cell import Cell
from vectable.core.key import KeyBytes
from vectable.core.rows import CellWrite, Delete, Outcome, Put, Receipt, WriteBatch
from vectable.errors import KeyExists

Values = tuple[Any, ...]
_CHUNK = 500
_EMPTY = Cell()


class _Stored(NamedTuple):
    rid: int
    revision: int


def write(
    connection: sqlite3.Connection, layout: Layout, batch: WriteBatch, values: Sequence[Values]
) -> Receipt:
    """Writes `batch`, whose puts have the encoded `values`, inside the caller's transaction.
    Raises TableNotFound, StaleGeneration, KeyExists."""
    table = layout.table
    standing = standing_of(connection, table)
    if batch.generation != standing.generation:
        raise changed(table)
    draft = _Draft(connection, layout, standing, batch)
    outcomes: list[Outcome] = [draft.put(p, v) for p, v in zip(batch.puts, values, strict=True)]
    outcomes += [draft.delete(d) for d in batch.deletes]
    written = sum([draft.write_cell(w) for w in batch.cells])
    standing = draft.flush()
    if batch.receipts:
        now = int(time.time())
        connection.executemany(
            "INSERT OR REPLACE INTO receipts VALUES (?, ?, ?, ?)",
            [(table.id, key, answer, now) for key, answer in batch.receipts.items()],
        )
    return Receipt(make_mark(table, standing), outcomes, written)


def _rows_in(connection: sqlite3.Connection, query: str, values: Iterable[Any]) -> Iterable[tuple[Any, ...]]:
    """Rows of `query` (with one {} for the marks of an IN list) over all `values`."""
    wanted = list(values)
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        yield from connection.execute(query.format(",".join("?" * len(chunk))), chunk)


class _Draft:
    """What the table will be: stored rows and cells, overlaid by what the batch has done so far."""

    def __init__(
        self, connection: sqlite3.Connection, layout: Layout, standing: Standing, batch: WriteBatch
    ) -> None:
        self._connection = connection
        self._layout = layout
        self._standing = standing
        self._batch = batch
        self._seq = standing.seq + 1
        self._next_rid = standing.next_rid
        self._rows = self._find_rows(batch)
        self._inserts: dict[int, tuple[KeyBytes, Values]] = {}
        self._updates: dict[int, Values] = {}
        self._deleted: dict[int, KeyBytes] = {}
        self._old: dict[str, dict[int, Cell]] = {}
        self._new: dict[str, dict[int, Cell]] = {}
        self._find_cells(batch)

    def _find_rows(self, batch: WriteBatch) -> dict[KeyBytes, _Stored]:
        keys = {p.key for p in batch.puts}
        keys.update(d.key for d in batch.deletes)
        keys.update(w.key for w in batch.cells)
        query = f"SELECT key, rid, seq FROM {self._layout.rows} WHERE key IN ({{}})"
        return {key: _Stored(rid, seq) for key, rid, seq in _rows_in(self._connection, query, keys)}

    def _find_cells(self, batch: WriteBatch) -> None:
        """Reads every cell the batch may change, since what becomes of it depends on what it is."""
        wanted: dict[str, set[int]] = {}
        for put in batch.puts:
            stored = self._rows.get(put.key)
            for version in (*put.wants, *put.vectors):
                rids = wanted.setdefault(version, set())
                if stored is not None:
                    rids.add(stored.rid)
        for cell in batch.cells:
            rids = wanted.setdefault(cell.version, set())
            stored = self._rows.get(cell.key)
            if stored is not None:
                rids.add(stored.rid)
        for version, rids in wanted.items():
            if version not in self._layout.versions:
                raise gone(f"version {version!r}")
            self._new[version] = {}
            query = (
                f"SELECT rid, want, have, vector, error, attempts FROM {cells_name(version)}"
                " WHERE rid IN ({})"
            )
            found = _rows_in(self._connection, query, rids)
            self._old[version] = {row[0]: Cell(*row[1:]) for row in found}

    def _cell(self, version: str, rid: int) -> Cell:
        cell = self._new[version].get(rid)
        return cell if cell is not None else self._old[version].get(rid, _EMPTY)

    def put(self, put: Put, values: Values) -> Outcome:
        stored = self._rows.get(put.key)
        if put.revision is not None and (stored is None or stored.revision != put.revision):
            return "changed"
        if stored is None:
            rid = self._next_rid
            self._next_rid += 1
            self._inserts[rid] = (put.key, values)
        else:
            if put.guard == "skip":
                return "skipped"
            if put.guard == "absent":
                raise self._key_exists(put.key)
            rid = stored.rid
            if rid in self._inserts:
                self._inserts[rid] = (put.key, values)
            else:
                self._updates[rid] = values
        self._rows[put.key] = _Stored(rid, self._seq)
        for version, want in put.wants.items():
            vector = put.vectors.get(version)
            if want is not None and vector is not None:
                self._new[version][rid] = Cell(want, want, vector)
            else:
                self._new[version][rid] = self._cell(version, rid).wanting(want)
        for version, vector in put.vectors.items():
            if version not in put.wants:
                self._new[version][rid] = self._cell(version, rid).given(vector)
        return "inserted" if stored is None else "replaced"

    def delete(self, delete: Delete) -> Outcome:
        stored = self._rows.get(delete.key)
        if stored is None:
            return "missing"
        if delete.revision is not None and delete.revision != stored.revision:
            return "changed"
        del self._rows[delete.key]
        rid = stored.rid
        if self._inserts.pop(rid, None) is None:
            self._updates.pop(rid, None)
            self._deleted[rid] = delete.key
        for cells in self._new.values():
            cells.pop(rid, None)
        return "deleted"

    def write_cell(self, write: CellWrite) -> bool:
        stored = self._rows.get(write.key)
        if stored is None or (write.revision is not None and write.revision != stored.revision):
            return False
        cell = write.onto(self._cell(write.version, stored.rid))
        if cell is None:
            return False
        self._new[write.version][stored.rid] = cell
        return True

    def _key_exists(self, first: KeyBytes) -> KeyExists:
        taken = [first]
        for put in self._batch.puts:
            stored = self._rows.get(put.key)
            if put.guard == "absent" and stored is not None and stored.rid not in self._inserts:
                taken.append(put.key)
        return key_exists(self._layout.table, *taken)

    def flush(self) -> Standing:
        """Writes what changed; where the table stands then."""
        changed = [self._flush_deletes(), self._flush_inserts(), self._flush_updates(), self._flush_cells()]
        if not any(changed):
            return self._standing
        rows = self._standing.rows + len(self._inserts) - len(self._deleted)
        self._connection.execute(
            "UPDATE tables SET seq = ?, rows = ?, next_rid = ? WHERE id = ?",
            (self._seq, rows, self._next_rid, self._layout.table.id),
        )
        return self._standing._replace(seq=self._seq, rows=rows, next_rid=self._next_rid)

    def _flush_deletes(self) -> bool:
        if not self._deleted:
            return False
        rids = [(rid,) for rid in self._deleted]
        for version in self._all_versions():
            self._connection.executemany(f"DELETE FROM {cells_name(version)} WHERE rid = ?", rids)
        self._connection.executemany(f"DELETE FROM {self._layout.rows} WHERE rid = ?", rids)
        now = int(time.time())
        self._connection.executemany(
            f"INSERT OR REPLACE INTO {self._layout.tombstones} (seq, key, at) VALUES (?, ?, ?)",
            [(self._seq, key, now) for key in self._deleted.values()],
        )
        return True

    def _all_versions(self) -> list[str]:
        query = "SELECT id FROM versions WHERE table_id = ?"
        return [row[0] for row in self._connection.execute(query, (self._layout.table.id,)).fetchall()]

    def _flush_inserts(self) -> bool:
        seq = self._seq
        rows = [(rid, key, seq, *values) for rid, (key, values) in self._inserts.items()]
        self._connection.executemany(self._layout.insert, rows)
        return bool(rows)

    def _flush_updates(self) -> bool:
        rows = [(self._seq, *values, rid) for rid, values in self._updates.items()]
        self._connection.executemany(self._layout.update, rows)
        return bool(rows)

    def _flush_cells(self) -> bool:
        changed = False
        for version, cells in self._new.items():
            old, seq = self._old[version], self._seq
            # Cells never change in place: the same object is the same cell.
            rows = [
                (rid, c.want, c.have, c.vector, c.error, c.attempts, seq)
                for rid, c in cells.items()
                if c is not old.get(rid, _EMPTY)
            ]
            self._connection.executemany(
                f"INSERT INTO {cells_name(version)} (rid, want, have, vector, error, attempts, seq)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (rid) DO UPDATE SET want = excluded.want,"
                " have = excluded.have, vector = excluded.vector, error = excluded.error,"
                " attempts = excluded.attempts, seq = excluded.seq",
                rows,
            )
            changed = changed or bool(rows)
        return changed
