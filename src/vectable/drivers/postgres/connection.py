"""Connections: how one is opened, what its session is set to, and vectors in pgvector's binary format.

Nothing waits on one for ever: not when the server dies in the middle of being written to, nor when its
machine is gone without a word."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import asyncpg
import numpy as np
from asyncpg import exceptions as pg

from vectable.drivers.postgres.address import Address
from vectable.drivers.postgres.incarnation import Incarnation
from vectable.drivers.postgres.names import SCHEMA, literal, quote
from vectable.drivers.postgres.trust import SYSTEM, system_trust
from vectable.errors import BackendError, BackendUnavailable, InvalidInput

CLOSE_S = 5.0
"""A connection that takes longer to be closed is cut."""
_HEAD = struct.Struct(">HH")
_SENT_AHEAD = 4 << 20
READ_ALIKE = {
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
}
"""Settings under which values are the same text for everybody, whatever the database or the role has set."""
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_GRACE_S = 30.0
"""A server stops a statement that takes too long itself; one that has not by then is not there."""
PRESENCE = 0x5645435453454E54
"""Each connection of ours holds this advisory lock, shared: so whoever would remove what is for all sees that
others are there, whatever they call themselves. ASCII "VECTSENT"."""
_PORTION = 96 << 10
"""The driver sends so much at once; for more it waits until there is room, and that wait may not end."""
_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
"""The machine of a server that is gone without a word is noticed within half a minute."""


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg is not typed
    """asyncpg's, without its waits that may never end: for room to write, while the server is gone."""

    incarnation: Incarnation
    """Of the database it sees, for as long as it lives; known of those a driver made."""
    _config: Any

    def allow(self, statement_timeout_ms: int) -> None:
        """Statements may take as long as the server lets them take (0: any time), and a little more."""
        limit = None if statement_timeout_ms <= 0 else statement_timeout_ms / 1000 + _GRACE_S
        self._config = self._config._replace(command_timeout=limit)

    async def executemany(self, command: str, args: Iterable[Sequence[Any]], **given: Any) -> None:
        """The statement with each of `args`, in portions small enough to be sent at once. Call it within a
        transaction: each portion is one of its own else."""
        for portion in _portions(args):
            await super().executemany(command, portion, **given)

    async def copy_to_table(self, table_name: str, **given: Any) -> str:
        """As asyncpg has it; TimeoutError when it takes longer than a statement may."""
        return await self._copied(super().copy_to_table(table_name, **given))

    async def copy_records_to_table(self, table_name: str, **given: Any) -> str:
        """As asyncpg has it; TimeoutError when it takes longer than a statement may."""
        return await self._copied(super().copy_records_to_table(table_name, **given))

    async def _copied(self, copying: Awaitable[str]) -> str:
        limit = self._config.command_timeout
        try:
            async with asyncio.timeout(None if limit is None else limit + CLOSE_S):
                return await copying
        except AttributeError as error:
            # It goes on writing to a connection that was cut meanwhile.
            if not self.is_closed():
                raise
            raise pg.ConnectionDoesNotExistError("connection was closed in the middle of COPY") from error

    def be_told_of_its_end(self) -> None:
        """Whoever waits for room to write goes on when the connection is lost, and meets the error; and the
        silence of a machine that is gone counts as that."""
        protocol = self._protocol
        self.add_termination_listener(lambda _: protocol.resume_writing())
        link = self._transport.get_extra_info("socket")
        if link is None or link.family not in (socket.AF_INET, socket.AF_INET6):
            return
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            with suppress(AttributeError, OSError):  # not every system has each
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send_ahead(self) -> None:
        """The system takes much of what is sent before the server reads it: so the server is not idle while
        the next rows are made here. Over TCP the system sees to that itself."""
        link = self._transport.get_extra_info("socket")
        if link is not None and link.family not in (socket.AF_INET, socket.AF_INET6):
            link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT_AHEAD)


async def connect(
    address: Address,
    *,
    vector_schema: str | None,
    statement_timeout_ms: int = 0,
    statement_cache: int = 256,
) -> Connection:
    """A connection whose session is as ours are: UTC, our schema and pgvector's on the search path, no
    just-in-time compilation, and PRESENCE held, shared. `vector_schema` None: pgvector is not there yet, so
    vectors cannot be read.

    The errors are the driver's: translate them. Raises InvalidInput for files the address names in vain,
    TimeoutError where it takes longer than the address allows, BackendError as `first_connection` does."""
    for name in _FILES:
        file = address.keywords.get(name)
        if file and (name, file) != ("sslrootcert", SYSTEM) and not os.access(file, os.R_OK):
            raise InvalidInput(f"{name} of the PostgreSQL address, {file!r}, is no file that can be read")
    connection = await _opened(
        address,
        statement_cache,
        {
            "search_path": _path(vector_schema),
            **READ_ALIKE,
            "statement_timeout": str(statement_timeout_ms),
            # Compiling a plan costs more than most of our statements take.
            "jit": "off",
        },
    )
    try:
        connection.be_told_of_its_end()
        connection.send_ahead()
        async with asyncio.timeout(address.connect_timeout_s):
            await connection.execute(f"SELECT pg_catalog.pg_advisory_lock_shared({PRESENCE})")
            if vector_schema is not None:
                await connection.set_type_codec(
                    "vector",
                    schema=vector_schema,
                    encoder=encode_vector,
                    decoder=decode_vector,
                    format="binary",
                )
        connection.allow(statement_timeout_ms)
    except BaseException:
        connection.terminate()
        raise
    return connection


def _path(vector_schema: str | None) -> str:
    return ", ".join(["pg_catalog", quote(SCHEMA)] + ([quote(vector_schema)] if vector_schema else []))


async def first_connection(address: Address) -> Connection:
    """As `connect`, without vectors; finds out whether settings arrive with a connection. Raises BackendError
    for a pooler that hands a session of the server from one client to another."""
    connection = await connect(address, vector_schema=None)
    if address.way.pooled or await connection.fetchval("SHOW search_path") == _path(None):
        return connection
    await connection.close(timeout=CLOSE_S)
    await _found_pooled(address)
    return await connect(address, vector_schema=None)


async def _opened(address: Address, statement_cache: int, settings: dict[str, str]) -> Connection:
    if not address.way.pooled:
        try:
            return await _bare(address, statement_cache, settings)
        except pg.ProtocolViolationError as error:
            if "startup parameter" not in str(error):
                raise
        await _found_pooled(address)
    connection = await _bare(address, statement_cache, {})
    try:
        async with asyncio.timeout(address.connect_timeout_s):
            calls = (f"set_config({literal(n)}, {literal(v)}, false)" for n, v in settings.items())
            await connection.execute("SELECT " + ", ".join(calls))
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _bare(address: Address, statement_cache: int, settings: dict[str, str]) -> Connection:
    try:
        connection: Connection = await asyncpg.connect(
            **address.arguments,
            ssl=system_trust(address.keywords),
            connection_class=Connection,
            timeout=address.connect_timeout_s,
            statement_cache_size=statement_cache,
            max_cached_statement_lifetime=0,
            server_settings={"application_name": address.application_name, **settings},
        )
    except (pg.ConnectionDoesNotExistError, ConnectionResetError) as error:
        if "sslcert" not in address.keywords:
            raise
        raise BackendUnavailable(
            f"{address.display} closed the connection while it was made",
            hint="it may not accept the certificate that sslcert names; its log says why",
        ) from error
    return connection


async def _found_pooled(address: Address) -> None:
    """Notes that there is a pooler, if it keeps a session for one client, as ours have to be. It does not
    where two clients meet the same process of the server, or one meets several."""
    met: list[list[int]] = []
    clients: list[Connection] = []
    try:
        while len(clients) < 2:
            clients.append(await _bare(address, 0, {}))
        for client in clients:
            met.append([])
            for _ in range(2):
                async with asyncio.timeout(address.connect_timeout_s), client.transaction(readonly=True):
                    met[-1].append(await client.fetchval("SELECT pg_catalog.pg_backend_pid()"))
    finally:
        for client in clients:
            client.terminate()
    if any(len(set(pids)) > 1 for pids in met) or set(met[0]) & set(met[1]):
        raise BackendError(
            f"{address.display} is a pooler that shares sessions among clients, as pgbouncer does with"
            " pool_mode=transaction: prepared statements and settings would not stay",
            hint="set pool_mode=session for this database or user, or name the server itself",
        )
    address.way.pooled = True


def _portions(args: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    """Rows in order, in lists whose messages fit what is sent at once; a row that alone does not goes
    alone."""
    portion: list[Sequence[Any]] = []
    room = _PORTION
    for row in args:
        size = 100 + sum(map(_size, row))
        if portion and size > room:
            yield portion
            portion, room = [], _PORTION
        portion.append(row)
        room -= size
    if portion:
        yield portion


def _size(value: Any) -> int:
    """Bytes of a parameter on its way, at most."""
    if isinstance(value, str):
        return 10 + (len(value) if value.isascii() else 4 * len(value))
    if isinstance(value, (bytes, bytearray)):
        return 20 + len(value)
    if isinstance(value, (memoryview, np.ndarray)):
        return 20 + value.nbytes
    if isinstance(value, (list, tuple)):
        return 30 + sum(map(_size, value))
    return 40


def encode_vector(vector: Any) -> bytes:
    """pgvector's binary format, from little-endian float32 bytes or anything numpy takes as float32[d]."""
    if isinstance(vector, (bytes, bytearray, memoryview)):
        components = np.frombuffer(vector, "<f4")
    else:
        components = np.asarray(vector, "<f4")
    return _HEAD.pack(len(components), 0) + components.astype(">f4").tobytes()


def decode_vector(data: bytes) -> bytes:
    """Little-endian float32 bytes, the form vectors are stored in, from pgvector's binary format."""
    return np.frombuffer(data, ">f4", offset=4).astype("<f4").tobytes()
