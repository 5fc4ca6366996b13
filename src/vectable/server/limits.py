"""What one request, and all of them together, may take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Self

from starlette.requests import Request

from vectable.config import Settings
from vectable.errors import TooLarge


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    max_body: int = 64 << 20
    """A JSON body. Streams of rows may be of any length."""
    max_in_flight: int = 512
    """Requests worked on at once; more are told to come back."""
    allowed_hosts: frozenset[str] = frozenset()
    """Names, beside those of loopback, under which the server answers on loopback."""
    client_requests_per_minute: int = 0
    """Of one client; 0: any number."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What the settings say, for one of the worker processes they ask for."""
        hosts = (host.strip().lower() for host in settings.allowed_hosts.split(","))
        return cls(
            settings.max_body_bytes,
            share_of(settings.max_in_flight, settings.workers),
            frozenset(filter(None, hosts)),
            share_of(settings.client_requests_per_minute, settings.workers),
        )


def share_of(most: int, workers: int) -> int:
    """What one of so many worker processes may take of a limit on all of them: together they never take more
    than `most`, unless that is less than one each. 0 (no limit) stays 0."""
    return max(1, most // workers) if most else 0


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body. Raises TooLarge once it is known to be longer than `max_bytes`."""
    stream = request.stream()
    declared = request.headers.get("content-length", "")
    chunks: list[bytes] = []
    size = int(declared) if declared.isdigit() and len(declared) < 20 else 0
    if size <= max_bytes:
        size = 0
        async for chunk in stream:
            chunks.append(chunk)
            size += len(chunk)
            if size > max_bytes:
                break
        else:
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
    chunks.clear()
    await drain(stream, max_bytes)
    raise TooLarge(
        f"the body is longer than {max_bytes} bytes",
        hint="send it in several requests; rows may come as NDJSON, CSV, Parquet or Arrow, of any length",
        context={"max_bytes": max_bytes},
    )


async def drain(chunks: AsyncIterator[bytes], max_bytes: int | None = None) -> None:
    """Reads what is left (of it, about `max_bytes`): a client still sending would not see the answer."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if max_bytes is not None and size > max_bytes:
            return
