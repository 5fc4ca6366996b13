"""Rows out of a request's body as it arrives: a body of any length, in memory that does not grow with it."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from typing import IO, Any, BinaryIO, TypeVar, cast

from vectable.core.schema import Table
from vectable.errors import InvalidInput
from vectable.ingest import Format, read_batches

PATIENCE_S = 60.0
"""How long a body may send nothing."""
_BUFFER = 1 << 20
# Readers wait for clients, so they may not sit on the threads other work needs.
_readers = ThreadPoolExecutor(max_workers=32, thread_name_prefix="upload")
T = TypeVar("T")


class _Arriving(io.RawIOBase):
    """A body as a file for a reader on another thread: reading waits for the event loop to hand over more."""

    def __init__(self, chunks: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._chunks = chunks
        self._loop = loop
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            chunk = self._next()
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        n = min(len(buffer), len(self._left))
        buffer[:n] = self._left[:n]
        self._left = self._left[n:]
        return n

    def _next(self) -> bytes | None:
        coming = asyncio.run_coroutine_threadsafe(self._take(), self._loop)
        try:
            return coming.result(PATIENCE_S)
        except TimeoutError:
            coming.cancel()
            raise InvalidInput(f"the body stopped arriving for {PATIENCE_S:.0f} seconds") from None
        except CancelledError:
            raise InvalidInput("the server is shutting down", hint="send the rest to another one") from None

    async def _take(self) -> bytes | None:
        return await anext(self._chunks, None)


async def row_batches(
    chunks: AsyncIterator[bytes], format: Format, table: Table
) -> AsyncIterator[list[dict[str, Any]]]:
    """Batches of rows. Parquet, whose directory is at its end, goes through a file that has no name and
    vanishes with the request. Raises what `vectable.ingest.read_batches` raises."""
    if format != "parquet":
        source = io.BufferedReader(_Arriving(chunks, asyncio.get_running_loop()), _BUFFER)
        async for batch in _read(cast(BinaryIO, source), format, table):
            yield batch
        return
    with tempfile.TemporaryFile(prefix="vectable-") as file:
        await _spool(chunks, file)
        async for batch in _read(cast(BinaryIO, file), format, table):
            yield batch


async def _read(source: BinaryIO, format: Format, table: Table) -> AsyncIterator[list[dict[str, Any]]]:
    batches: Iterator[list[dict[str, Any]]] = read_batches(source, format, table)
    while (batch := await _on_reader(lambda: next(batches, None))) is not None:
        yield batch


async def _spool(chunks: AsyncIterator[bytes], file: IO[bytes]) -> None:
    held: list[bytes] = []
    size = 0
    async for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= _BUFFER:
            await _on_reader(partial(file.writelines, held))
            held, size = [], 0
    await _on_reader(partial(file.writelines, held))
    file.seek(0)


async def _on_reader(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_readers, work)
