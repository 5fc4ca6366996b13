"""Poolers in between. pgbouncer is no Python package, so one is simulated: it lets no settings through with a
connection, and keeps a session of the server for one client, or hands one session to all."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import pytest

from vectable import connect_async
from vectable.drivers.postgres import Address
from vectable.errors import BackendError

LET_THROUGH = {"user", "database", "client_encoding", "application_name"}
READY = b"Z\0\0\0\5I"


class SimulatedPooler:
    """`refuses` settings it does not know, as pgbouncer does, or ignores them; `shares` one session."""

    def __init__(self, target: str, *, refuses: bool, shares: bool) -> None:
        self._target, self._refuses, self._shares = target, refuses, shares
        self._requests: asyncio.StreamWriter | None = None
        self._greeting = b""
        self._current: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._begin(reader, writer)
        writer.close()

    async def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack(">I", await reader.readexactly(4))
        words = (await reader.readexactly(size - 4))[4:].decode().split("\0")
        settings = dict(zip(words[::2], words[1::2], strict=False))
        unknown = sorted(set(settings) - LET_THROUGH - {""})
        if unknown and self._refuses:
            text = f"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: {unknown[0]}\0\0".encode()
            writer.write(b"E" + struct.pack(">I", 4 + len(text)) + text)
            return
        kept = "".join(f"{k}\0{v}\0" for k, v in settings.items() if k in LET_THROUGH) + "\0"
        await self._hand_on(reader, writer, struct.pack(">II", 8 + len(kept), 196608) + kept.encode())

    async def _hand_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, startup: bytes
    ) -> None:
        if self._requests is None or not self._shares:
            answers, requests = await asyncio.open_unix_connection(self._target)
            requests.write(startup)
            self._greeting = await answers.readuntil(READY)
            self._requests = requests
            own = None if self._shares else writer
            self._tasks.append(asyncio.create_task(self._answer(answers, own)))
        else:
            requests = self._requests
        writer.write(self._greeting)
        while data := await reader.read(65_536):
            if data == b"X\0\0\0\4" and self._shares:
                break
            self._current = writer
            requests.write(data)
        if not self._shares:
            requests.close()

    async def _answer(self, answers: asyncio.StreamReader, own: asyncio.StreamWriter | None) -> None:
        with contextlib.suppress(OSError):
            while data := await answers.read(65_536):
                to = own or self._current
                assert to is not None
                to.write(data)
        if own is not None:
            own.close()

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._requests is not None:
            self._requests.close()


@asynccontextmanager
async def pooled(url: str, *, refuses: bool, shares: bool) -> AsyncIterator[str]:
    """The address of the database behind such a pooler."""
    found = Address.parse(url)
    if not found.keywords.get("host", "").startswith("/"):
        pytest.skip("the server under test is not on this machine")
    target = f"{found.keywords['host']}/.s.PGSQL.{found.keywords.get('port', '5432')}"
    pooler = SimulatedPooler(target, refuses=refuses, shares=shares)
    async with await asyncio.start_server(pooler.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        yield f"postgresql://{quote(found.user)}@127.0.0.1:{port}/{found.database}?sslmode=disable"
        pooler.end()


@pytest.mark.parametrize("refuses", [True, False])
async def test_through_a_pooler_that_keeps_sessions_a_database_is_like_any_other(
    postgres_url: str, refuses: bool
) -> None:
    async with (
        pooled(postgres_url, refuses=refuses, shares=False) as url,
        await connect_async(url, fake_embeddings=True, text_model="hashing/16") as db,
    ):
        table = await db.create_table("t", {"title": "string"})
        await table.add_embedding_column("emb", source="title")
        await table.insert([{"id": str(i), "title": f"word {i}"} for i in range(300)])
        [hit] = await table.similar("word 77", on="emb").limit(1).collect()
        assert hit["title"] == "word 77"
        driver = db.engine.backend._driver  # type: ignore[attr-defined]
        asked = "SELECT current_setting('search_path'), current_setting('statement_timeout')"
        path, limit = await driver.read(lambda connection: connection.fetchrow(asked))
        assert "vectable" in path
        assert limit == "1min"


@pytest.mark.parametrize("refuses", [True, False])
async def test_a_pooler_that_shares_sessions_is_refused_by_name(postgres_url: str, refuses: bool) -> None:
    async with pooled(postgres_url, refuses=refuses, shares=True) as url:
        with pytest.raises(BackendError, match="pool_mode=transaction") as refused:
            await connect_async(url)
    assert "pool_mode=session" in (refused.value.hint or "")
