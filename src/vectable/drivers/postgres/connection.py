"""Connections: how one is opened, what its session is set to, and vectors in pgvector's binary format."""

from __future__ import annotations

import os
import struct
from typing import Any, TypeAlias

import asyncpg
import numpy as np

from vectable.drivers.postgres.address import Address
from vectable.drivers.postgres.names import SCHEMA, quote
from vectable.errors import InvalidInput

Connection: TypeAlias = asyncpg.Connection

_HEAD = struct.Struct(">HH")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")


async def connect(
    address: Address,
    *,
    vector_schema: str | None,
    statement_timeout_ms: int = 0,
    statement_cache: int = 256,
) -> Connection:
    """A connection whose session is as ours are: UTC, our schema and pgvector's on the search path, no
    just-in-time compilation. `vector_schema` None: pgvector is not there yet, so vectors cannot be read.

    The errors are the driver's: translate them. Raises InvalidInput for files the address names in vain."""
    for name in _FILES:
        file = address.keywords.get(name)
        if file and not os.access(file, os.R_OK):
            raise InvalidInput(f"{name} of the PostgreSQL address, {file!r}, is no file that can be read")
    path = ["pg_catalog", quote(SCHEMA)] + ([quote(vector_schema)] if vector_schema else [])
    connection: Connection = await asyncpg.connect(
        **address.arguments,
        timeout=address.connect_timeout_s,
        statement_cache_size=statement_cache,
        max_cached_statement_lifetime=0,
        server_settings={
            "application_name": address.application_name,
            "search_path": ", ".join(path),
            "timezone": "UTC",
            "statement_timeout": str(statement_timeout_ms),
            # Compiling a plan costs more than most of our statements take.
            "jit": "off",
        },
    )
    if vector_schema is not None:
        try:
            await connection.set_type_codec(
                "vector", schema=vector_schema, encoder=encode_vector, decoder=decode_vector, format="binary"
            )
        except BaseException:
            connection.terminate()
            raise
    return connection


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
