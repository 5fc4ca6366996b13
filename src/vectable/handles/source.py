"""Rows in whatever form they come: dicts, data frames, files, generators; as batches of plain dicts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from itertools import islice
from pathlib import Path, PurePath
from sys import getsizeof
from typing import Any

from vectable.core.schema import Table
from vectable.errors import InvalidInput, InvalidRow, shift_row
from vectable.handles.callers import off_loop
from vectable.handles.result import Result
from vectable.ingest import DEFAULT_BATCH, format_of, from_arrow, read_batches, speaks_arrow

Batch = Sequence[Mapping[str, Any]]
_SMALL_BATCHES = 2
_LARGEST_BATCH = 10_000
_LARGEST_BYTES = 16 << 20
_SAMPLE = 20


async def whole(rows: Any, table: Table) -> Batch | None:
    """All rows of what has a length (a dict, a list, a data frame, an Arrow table, a Result), to be written
    all or none; None for what comes bit by bit (files, generators, readers). Raises InvalidInput."""
    if isinstance(rows, Mapping):
        return [rows]
    if isinstance(rows, Result):
        return rows.rows
    if isinstance(rows, (str, PurePath)):
        return None
    if hasattr(rows, "__len__") and speaks_arrow(rows):
        return await off_loop(lambda: _all(from_arrow(rows, table)))
    if isinstance(rows, Sequence) and not isinstance(rows, (bytes, bytearray)):
        return rows
    if isinstance(rows, (Iterable, AsyncIterable)) and not isinstance(rows, (bytes, bytearray)):
        return None
    if speaks_arrow(rows):
        return None
    raise InvalidInput(
        f"a {type(rows).__name__} holds no rows",
        hint="give a dict, a list or generator of dicts, a pandas, polars, Arrow or DuckDB table, or a "
        "path to a Parquet, CSV, JSONL or Arrow file",
    )


def _all(batches: Iterator[Batch]) -> Batch:
    rows: list[Mapping[str, Any]] = []
    try:
        for batch in batches:
            rows.extend(batch)
    except InvalidRow as error:
        shift_row(error, len(rows))
        raise
    return rows


async def stream(rows: Any, table: Table) -> AsyncGenerator[Batch, None]:
    """Batches of what comes bit by bit. Drawing from it never happens on the event loop."""
    if isinstance(rows, AsyncIterable) and not isinstance(rows, Iterable):
        async with aclosing(_gathered(rows)) as gathered:
            async for batch in gathered:
                yield batch
        return
    batches = await off_loop(lambda: _batches(rows, table))

    def draw() -> Batch | None:
        return next(batches, None)

    try:
        while (drawn := await off_loop(draw)) is not None:
            yield drawn
    finally:
        await off_loop(batches.close)


def _batches(rows: Any, table: Table) -> Generator[Batch, None, None]:
    if isinstance(rows, (str, PurePath)):
        return _file(Path(rows), table)
    if speaks_arrow(rows):
        return (batch for batch in from_arrow(rows, table))
    return _drawn(iter(rows))


def _drawn(rows: Iterator[Any]) -> Generator[Batch, None, None]:
    size = _Size()
    while batch := list(islice(rows, size.rows)):
        yield batch
        size.after(batch)


class _Size:
    """How many rows the next batch is to have: more and more of them where they are small, for every batch
    costs a wait for the disk."""

    def __init__(self) -> None:
        self.rows = DEFAULT_BATCH
        self._batches = 0

    def after(self, batch: Batch) -> None:
        """Takes a batch into account."""
        self._batches += 1
        if self._batches < _SMALL_BATCHES:
            return
        sample = batch[:: max(1, len(batch) // _SAMPLE)]
        weight = sum(map(_weight, sample)) / len(sample)
        most = min(_LARGEST_BATCH, 2 * self.rows, int(_LARGEST_BYTES / max(weight, 1)))
        self.rows = max(DEFAULT_BATCH, most)


def _weight(row: Any) -> int:
    """About how many bytes a row takes."""
    values = row.values() if isinstance(row, Mapping) else ()
    return sum(
        v.nbytes if hasattr(v, "nbytes") else 8 * len(v) if isinstance(v, (list, tuple)) else getsizeof(v)
        for v in values
    )


def _file(path: Path, table: Table) -> Generator[Batch, None, None]:
    kind = format_of(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidInput(
            f"the file {str(path)!r} cannot be opened: {error.strerror}", hint="check the path"
        ) from None
    with file:
        yield from read_batches(file, kind, table)


async def _gathered(rows: AsyncIterable[Any]) -> AsyncGenerator[Batch, None]:
    size = _Size()
    batch: list[Any] = []
    async for row in rows:
        batch.append(row)
        if len(batch) >= size.rows:
            yield batch
            size.after(batch)
            batch = []
    if batch:
        yield batch
