"""Rows of a file into a table, with progress."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vectable.errors import InvalidRow, KeyExists
from vectable.handles.progress import progress
from vectable.ingest import Format, read_batches

if TYPE_CHECKING:
    from vectable.core.rows import InsertResult, OnConflict
    from vectable.handles import AsyncDatabase, AsyncTable

Batch = list[dict[str, Any]]


async def load(
    database: AsyncDatabase, table: AsyncTable, path: Path, kind: Format, on_conflict: OnConflict
) -> InsertResult:
    """Inserts every row of the file, batch by batch. Raises KeyExists, and InvalidRow, whose context says
    which `row` it was and how many were `inserted` before it."""
    source = _Source(path, kind)
    definition = await table.reload()
    try:
        with progress(f"import into {table.full_name}") as update:
            return await database.engine.writer.insert_stream(
                database.context,
                table.full_name,
                _off_loop(source.batches(definition)),
                on_conflict=on_conflict,
                progress=lambda done, _: update(done, source.total(done)),
            )
    except (InvalidRow, KeyExists) as error:
        error.hint = _what_to_do(error)
        raise


def _what_to_do(error: InvalidRow | KeyExists) -> str:
    """Says how far the import came, and how to go on."""
    kept = error.context.get("inserted", 0)
    hint = f"{kept:,} rows before are kept" if kept else "nothing was imported"
    if isinstance(error, KeyExists):
        return f"{hint}; for rows that exist say --on-conflict replace, or skip"
    own = f"{error.hint}; " if error.hint else ""
    return f"{own}{hint}" + ("; mend it and import with --on-conflict skip" if kept else "")


class _Source:
    """A file on its way, which can tell about how many rows it has."""

    def __init__(self, path: Path, kind: Format) -> None:
        self._path = path
        self._kind = kind
        self._size = max(1, os.path.getsize(path))
        self._at = 0
        self._rows: int | None = None
        if kind == "parquet":
            from vectable.ingest.arrow_schema import parquet_rows

            self._rows = parquet_rows(path)

    def batches(self, definition: Any) -> Iterator[Batch]:
        with self._path.open("rb") as file:
            for batch in read_batches(file, self._kind, definition):
                self._at = file.tell()
                yield batch

    def total(self, done: int) -> int | None:
        """All rows; of a text about as many as its size and the rows so far let expect."""
        if self._rows is not None or not self._at:
            return self._rows
        return max(done, round(done * self._size / self._at))


async def _off_loop(batches: Iterator[Batch]) -> AsyncIterator[Batch]:
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        yield batch
