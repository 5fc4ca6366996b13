"""Write batches: planned over what is stored, then written with few statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from asyncpg import exceptions as pg

from vectable.backends.postgres.draft import Draft, Stored, Values
from vectable.backends.postgres.layout import KEY, REVISION, XID, Layout, cells_name, gone
from vectable.backends.postgres.load import COPIED, load
from vectable.backends.postgres.standing import Snapshot, make_mark, not_found
from vectable.core.cell import Cell
from vectable.core.key import KeyBytes
from vectable.core.rows import Outcome, Receipt, WriteBatch
from vectable.drivers.postgres import SCHEMA, Connection, ours, quote
from vectable.errors import StaleGeneration


class Moved(Exception):
    """The rows are not where they were thought to be: look again, and start from the beginning."""


class Overtaken(Exception):
    """Another transaction made a row of the same key meanwhile: start from the beginning, and find it."""


class Written(NamedTuple):
    receipt: Receipt
    xid: int


async def write(
    connection: Connection,
    layout: Layout,
    batch: WriteBatch,
    values: Sequence[Values] | None,
) -> Written:
    """Writes `batch`, whose puts have the encoded `values`, inside the caller's transaction. Without `values`
    its rows are taken to be new (`load.is_load`): Overtaken when one is not.
    Raises TableNotFound, StaleGeneration, KeyExists, and Moved and Overtaken for the caller to try again."""
    snapshot, xid = await _settled(connection, layout, batch)
    try:
        if values is None:
            await load(connection, layout, batch.puts)
            outcomes: list[Outcome] = ["inserted"] * len(batch.puts)
            written = 0
        else:
            outcomes, written = await _merge(connection, layout, batch, values)
    except pg.UniqueViolationError as error:
        if error.constraint_name and error.table_name == layout.place.name:
            raise Overtaken from error
        raise
    table = layout.table
    if batch.receipts:
        await connection.executemany(
            "INSERT INTO vectable.receipts (table_id, key, answer) VALUES ($1, $2, $3) ON CONFLICT"
            " (table_id, key) DO UPDATE SET answer = excluded.answer, created = now()",
            [(table.id, key, answer) for key, answer in sorted(batch.receipts.items())],
        )
    mark = make_mark(connection.incarnation, table, snapshot.with_own(xid))
    return Written(Receipt(mark, outcomes, written), xid)


async def _settled(connection: Connection, layout: Layout, batch: WriteBatch) -> tuple[Snapshot, int]:
    """Keeps the table as it is until the end, and makes sure that it is as it was thought to be; the moment,
    and the number of this transaction."""
    table, place = layout.table, layout.place
    try:
        # Two writers do not hold each other up.
        await connection.execute(f"LOCK TABLE {place.rows} IN ROW EXCLUSIVE MODE")
    except pg.UndefinedTableError:
        raise Moved from None
    row = await connection.fetchrow(
        "SELECT generation, pg_current_snapshot()::text, pg_current_xact_id()::text FROM vectable.tables"
        " WHERE id = $1",
        table.id,
    )
    if row is None:
        raise not_found(table)
    generation, text, xid = row[0], row[1], int(row[2])
    if generation != place.generation:
        raise Moved
    if batch.generation != generation:
        raise StaleGeneration(f"table {table.full_name!r} has changed", hint="read the definition again")
    return Snapshot.told(text), xid


async def _merge(
    connection: Connection, layout: Layout, batch: WriteBatch, values: Sequence[Values]
) -> tuple[list[Outcome], int]:
    """Writes what the batch makes of what is stored; the outcomes, and how many cell writes landed."""
    writer = _Writer(connection, layout)
    draft = Draft(layout.table, batch, await writer.find_rows(batch))
    for version, keys in draft.wanted_cells().items():
        draft.found_cells(version, await writer.find_cells(version, keys))
    outcomes: list[Outcome] = [draft.put(p, v) for p, v in zip(batch.puts, values, strict=True)]
    outcomes += [draft.delete(d) for d in batch.deletes]
    written = sum([draft.write_cell(w) for w in batch.cells])
    await writer.flush(draft)
    return outcomes, written


class _Writer:
    """The statements of one batch."""

    def __init__(self, connection: Connection, layout: Layout) -> None:
        self._connection = connection
        self._layout = layout
        self._place = layout.place

    async def find_rows(self, batch: WriteBatch) -> dict[KeyBytes, Stored]:
        """The stored rows of the batch's keys, locked: nobody else changes them or their cells until the
        end."""
        keys = {p.key for p in batch.puts}
        keys.update(d.key for d in batch.deletes)
        keys.update(w.key for w in batch.cells)
        if not keys:
            return {}
        # One order for all, so that two batches do not wait for each other.
        found = await self._connection.fetch(
            f"SELECT {KEY}, {REVISION} FROM {self._place.rows} WHERE {KEY} = ANY ($1::bytea[])"
            f" ORDER BY {KEY} FOR NO KEY UPDATE",
            sorted(keys),
        )
        return {key: Stored(revision) for key, revision in found}

    async def find_cells(self, version: str, keys: set[KeyBytes]) -> dict[KeyBytes, Cell]:
        """The stored cells. In place of a vector stands `draft.KEPT`: it is not read to be written back."""
        if version not in self._layout.versions or version not in self._place.versions:
            raise gone(f"version {version!r}")
        if not keys:
            return {}
        found = await self._connection.fetch(
            "SELECT key, want, have, vector IS NOT NULL, error, attempts"
            f" FROM {ours(cells_name(version))} WHERE key = ANY ($1::bytea[])",
            list(keys),
        )
        return {key: Draft.stored_cell(*parts) for key, *parts in found}

    async def flush(self, draft: Draft) -> None:
        """Writes what changed."""
        await self._delete(draft)
        await self._insert(draft)
        await self._update(draft)
        for version in sorted(draft.versions):
            await self._write_cells(version, draft)

    def _names(self) -> list[str]:
        names = self._place.names or {}
        missing = [c.name for c in self._layout.columns if c.id not in names]
        if missing:
            raise gone(f"column {missing[0]!r}")
        return [names[c.id] for c in self._layout.columns]

    async def _delete(self, draft: Draft) -> None:
        keys = sorted(draft.deleted)
        if not keys:
            return
        place, run = self._place, self._connection.execute
        await run(f"DELETE FROM {place.rows} WHERE {KEY} = ANY ($1::bytea[])", keys)
        for version in sorted(place.versions):
            await run(f"DELETE FROM {ours(cells_name(version))} WHERE key = ANY ($1::bytea[])", keys)
        await run(f"INSERT INTO {place.tombstones} (key) SELECT unnest($1::bytea[])", keys)

    async def _insert(self, draft: Draft) -> None:
        rows = [(key, *values) for key, values in sorted(draft.inserts.items(), key=lambda item: item[0])]
        if not rows:
            return
        columns = [KEY, *self._names()]
        await self._add(self._place.schema, self._place.name, columns, rows)

    async def _add(self, schema: str, name: str, columns: list[str], rows: list[Values]) -> None:
        if len(rows) >= COPIED:
            await self._connection.copy_records_to_table(
                name, schema_name=schema, columns=columns, records=rows
            )
            return
        marks = ", ".join(f"${i + 1}" for i in range(len(columns)))
        names = ", ".join(map(quote, columns))
        await self._connection.executemany(
            f"INSERT INTO {quote(schema)}.{quote(name)} ({names}) VALUES ({marks})", rows
        )

    async def _update(self, draft: Draft) -> None:
        if not draft.updates:
            return
        names = "".join(f", {quote(name)} = ${i + 2}" for i, name in enumerate(self._names()))
        await self._connection.executemany(
            f"UPDATE {self._place.rows} SET {XID} = DEFAULT, {REVISION} = DEFAULT{names} WHERE {KEY} = $1",
            [(key, *values) for key, values in sorted(draft.updates.items(), key=lambda item: item[0])],
        )

    async def _write_cells(self, version: str, draft: Draft) -> None:
        name = cells_name(version)
        new, whole, kept = draft.changed_cells(version)
        columns = ["key", "want", "have", "vector", "error", "attempts"]
        if new:
            await self._add(SCHEMA, name, columns, new)
        if whole:
            await self._connection.executemany(
                f"UPDATE {ours(name)} SET want = $2, have = $3, vector = $4, error = $5, attempts = $6,"
                " xid = DEFAULT WHERE key = $1",
                whole,
            )
        if kept:
            await self._connection.executemany(
                f"UPDATE {ours(name)} SET want = $2, have = $3, error = $4, attempts = $5, xid = DEFAULT"
                " WHERE key = $1",
                kept,
            )
