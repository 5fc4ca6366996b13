"""Bulk load: many rows that are all new, streamed in by COPY without a look at what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from operator import le

from vectable.backends.postgres.binary import (
    HEADER,
    TRAILER,
    Fields,
    alike,
    blobs,
    fields,
    records,
    records_alike,
    vectors,
)
from vectable.backends.postgres.layout import KEY, Layout, cells_name, gone
from vectable.core.puts import PutColumns, Stored, StoredVectors
from vectable.core.rows import Put, WriteBatch
from vectable.drivers.postgres import SCHEMA, Connection

COPIED = 50
"""From so many new rows on, COPY is faster than one statement each."""
_PIECE_BYTES = 256 << 10
"""What is encoded and sent in one go. Larger pieces are slower: their memory comes fresh from the system each
time, and the server waits for them. None takes long enough for the event loop to notice."""
_ROWS_PIECE = 1_000
_STATEMENT = 20_000
"""Rows of one COPY: so none takes as long as a statement may."""

Encode = Callable[[slice], bytes | memoryview]


def is_load(batch: WriteBatch) -> bool:
    """Whether `batch` does nothing but add rows, many of them, none of which may exist."""
    puts = batch.puts
    if batch.deletes or batch.cells or len(puts) < COPIED:
        return False
    if isinstance(puts, PutColumns):
        return puts.guard == "absent" and puts.revisions is None
    return all(put.guard == "absent" and put.revision is None for put in puts)


async def load(connection: Connection, layout: Layout, puts: Sequence[Put]) -> None:
    """Adds the rows and their cells, inside the caller's transaction. A key that exists fails it."""
    place = layout.place
    if not isinstance(puts, PutColumns):
        puts = PutColumns.of(puts, [column.name for column in layout.columns])
    for id_ in sorted({*puts.wants, *puts.vectors}):
        if id_ not in layout.versions or id_ not in place.versions:
            raise gone(f"version {id_!r}")
    names = place.names or {}
    missing = [column.name for column in layout.columns if column.id not in names]
    if missing:
        raise gone(f"column {missing[0]!r}")
    puts = _ordered(puts)
    columns = [KEY, *(names[column.id] for column in layout.columns)]
    await _copy(
        connection, place.schema, place.name, columns, len(puts), _row_encoder(layout, puts), _ROWS_PIECE
    )
    for _, version in layout.table.versions:
        if version.id not in puts.wants:
            continue
        wanting = _wanting(puts, version.id)
        encode = _cell_encoder(wanting, version.id, version.dimensions)
        piece = max(1, _PIECE_BYTES // (4 * version.dimensions))
        columns = ["key", "want", "have", "vector"]
        await _copy(connection, SCHEMA, cells_name(version.id), columns, len(wanting), encode, piece)


def _ordered(puts: PutColumns) -> PutColumns:
    """In the order of their keys, as every other writer: so two do not wait for each other."""
    keys = puts.keys
    if all(map(le, keys, keys[1:])):
        return puts
    return puts.take(sorted(range(len(keys)), key=keys.__getitem__))


def _wanting(puts: PutColumns, version: str) -> PutColumns:
    """Those with a cell."""
    wants = puts.wants[version]
    if None not in wants:
        return puts
    return puts.take([i for i, want in enumerate(wants) if want is not None])


def _row_encoder(layout: Layout, puts: PutColumns) -> Encode:
    nothing = [None] * len(puts)
    columns = [(column.type, puts.columns.get(column.name, nothing)) for column in layout.columns]

    def encode(at: slice) -> bytes:
        encoded: list[Fields] = [blobs(puts.keys[at])]
        encoded += [fields(type_, values[at]) for type_, values in columns]
        return records(encoded)

    return encode


def _cell_encoder(puts: PutColumns, version: str, dimensions: int) -> Encode:
    wants = puts.wants[version]
    given = puts.vectors.get(version) or [None] * len(wants)
    same = wants[0] if wants and wants.count(wants[0]) == len(wants) else None

    def encode(at: slice) -> bytes | memoryview:
        keys, found = puts.keys[at], given[at]
        if same is not None and isinstance(found, StoredVectors) and found.present is None:
            made = records_alike(keys, 2 * alike(same), found.matrix)
            if made is not None:
                return made
        want = wants[at]
        return records([blobs(keys), blobs(want), blobs(_had(want, found)), vectors(found, dimensions)])

    return encode


def _had(wants: Sequence[bytes | None], found: Stored) -> list[bytes | None]:
    return [None if vector is None else want for want, vector in zip(wants, found, strict=True)]


async def _copy(
    connection: Connection,
    schema: str,
    name: str,
    columns: Sequence[str],
    count: int,
    encode: Encode,
    piece: int,
) -> None:
    """`piece`: how many rows are encoded together."""
    for start in range(0, count, _STATEMENT):
        await connection.copy_to_table(
            name,
            schema_name=schema,
            columns=columns,
            source=_stream(start, min(count, start + _STATEMENT), encode, piece),
            format="binary",
        )


async def _stream(start: int, end: int, encode: Encode, piece: int) -> AsyncIterator[bytes | memoryview]:
    """The rows as COPY takes them."""
    yield HEADER
    for at in range(start, end, piece):
        yield encode(slice(at, min(end, at + piece)))
        await asyncio.sleep(0)  # others take their turns, however fast the server takes it all
    yield TRAILER
