"""A database with tables that others own, and Vectable beside them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import asyncpg
import pytest

from tests.waiting import until_async
from vectable import AsyncDatabase, connect_async
from vectable.drivers.postgres import Address
from vectable.drivers.postgres.server import programs

_DUMP = programs() / "pg_dump"
Owner: TypeAlias = asyncpg.Connection
Check: TypeAlias = Callable[[], Awaitable[bool]]


@pytest.fixture
async def owner(postgres_url: str) -> AsyncIterator[Owner]:
    """Somebody with plain SQL, who knows nothing of Vectable."""
    connection = await asyncpg.connect(**Address.parse(postgres_url).arguments)
    yield connection
    await connection.close()


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[AsyncDatabase]:
    async with await connect_async(postgres_url, fake_embeddings=True) as found:
        yield found


def dump(url: str) -> list[str]:
    """What pg_dump says of the schema."""
    text = subprocess.run(
        [_DUMP, "--schema-only", f"--dbname={url}"],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ,
    ).stdout
    return [line for line in text.splitlines() if "restrict" not in line]


async def until(check: Check) -> None:
    """Waits for `check` to hold."""
    await until_async(check, pause_s=0.05)
