"""Bulk load: many rows that are all new, streamed in by COPY without a look at what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from operator import attrgetter

from vectable.backends.postgres.binary import HEADER, TRAILER, Fields, blobs, fields, records, vectors
from vectable.backends.postgres.layout import KEY, Layout, cells_name, gone
from vectable.core.rows import Put, WriteBatch
from vectable.drivers.postgres import SCHEMA, Connection

COPIED = 50
"""From so many new rows on, COPY is faster than one statement each."""
_PIECE_BYTES = 256 << 10
"""Larger pieces are slower: their memory comes fresh from the system each time."""
_AT_ONCE = 1_000
"""Rows encoded in one go."""
_STATEMENT = 20_000
"""Rows of one COPY: so none takes as long as a statement may."""
_IN_THREAD = 200

Encode = Callable[[Sequence[Put]], bytes]


def is_load(batch: WriteBatch) -> bool:
    """Whether `batch` does nothing but add rows, many of them, none of which may exist."""
    if batch.deletes or batch.cells or len(batch.puts) < COPIED:
        return False
    return all(put.guard == "absent" and put.revision is None for put in batch.puts)


async def load(connection: Connection, layout: Layout, puts: Sequence[Put]) -> None:
    """Adds the rows and their cells, inside the caller's transaction. A key that exists fails it."""
    place = layout.place
    for id_ in sorted({id_ for put in puts for id_ in (*put.wants, *put.vectors)}):
        if id_ not in layout.versions or id_ not in place.versions:
            raise gone(f"version {id_!r}")
    names = place.names or {}
    missing = [column.name for column in layout.columns if column.id not in names]
    if missing:
        raise gone(f"column {missing[0]!r}")
    # In the order of their keys, as every other writer: so two do not wait for each other.
    ordered = sorted(puts, key=attrgetter("key"))
    columns = [KEY, *(names[column.id] for column in layout.columns)]
    await _copy(connection, place.schema, place.name, columns, ordered, _row_encoder(layout))
    for _, version in layout.table.versions:
        wanting = [put for put in ordered if put.wants.get(version.id) is not None]
        encode = _cell_encoder(version.id, version.dimensions)
        rows = max(1, _PIECE_BYTES // (4 * version.dimensions))
        columns = ["key", "want", "have", "vector"]
        await _copy(connection, SCHEMA, cells_name(version.id), columns, wanting, encode, rows)


def _row_encoder(layout: Layout) -> Encode:
    described = [(column.name, column.type) for column in layout.columns]

    def encode(puts: Sequence[Put]) -> bytes:
        columns: list[Fields] = [blobs([put.key for put in puts])]
        columns += [fields(type_, [put.values.get(name) for put in puts]) for name, type_ in described]
        return records(columns)

    return encode


def _cell_encoder(version: str, dimensions: int) -> Encode:
    def encode(puts: Sequence[Put]) -> bytes:
        given = [put.vectors.get(version) for put in puts]
        wants = [put.wants[version] for put in puts]
        haves = [None if vector is None else want for want, vector in zip(wants, given, strict=True)]
        keys = [put.key for put in puts]
        return records([blobs(keys), blobs(wants), blobs(haves), vectors(given, dimensions)])

    return encode


async def _copy(
    connection: Connection,
    schema: str,
    name: str,
    columns: Sequence[str],
    puts: Sequence[Put],
    encode: Encode,
    piece: int = _AT_ONCE,
) -> None:
    """`piece`: how many rows are encoded together."""
    for at in range(0, len(puts), _STATEMENT):
        await connection.copy_to_table(
            name,
            schema_name=schema,
            columns=columns,
            source=_stream(puts[at : at + _STATEMENT], encode, piece),
            format="binary",
        )


async def _stream(puts: Sequence[Put], encode: Encode, piece: int) -> AsyncIterator[bytes]:
    """The rows as COPY takes them, encoded on another thread where they are many."""

    def pieces(start: int) -> list[bytes]:
        end = min(start + _AT_ONCE, len(puts))
        return [encode(puts[at : min(at + piece, end)]) for at in range(start, end, piece)]

    yield HEADER
    for start in range(0, len(puts), _AT_ONCE):
        made = pieces(start) if len(puts) <= _IN_THREAD else await asyncio.to_thread(pieces, start)
        for each in made:
            yield each
    yield TRAILER
