"""A real PostgreSQL with pgvector for tests: one server per test process, a fresh database per test.

`VECTABLE_TEST_POSTGRES_URL` names a server to use instead; its role must be allowed to create databases (and
the extension). Read when the session starts, before the suite's settings are cleaned."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from vectable.drivers.postgres import Address, quote
from vectable.drivers.postgres.server import PostgresServer

VARIABLE = "VECTABLE_TEST_POSTGRES_URL"
_TEMPLATE = "vectable_test_template"


class PostgresDatabases:
    """Fresh databases on one server, each with pgvector installed."""

    def __init__(self, url: str) -> None:
        self._address = Address.parse(url)
        self._url = url
        self._made = False
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._kept: asyncpg.Connection | None = None
        self._template = f"{_TEMPLATE}_{secrets.token_hex(4)}"

    def url_of(self, database: str, user: str | None = None) -> str:
        """The address of another database on the same server, in libpq's keywords; as `user`, if given."""
        found = {**self._keywords(), "dbname": database}
        if user is not None:
            found["user"] = user
        return " ".join(f"{k}='{_escaped(v)}'" for k, v in found.items())

    def _keywords(self) -> dict[str, str]:
        return {k: v for k, v in self._address.keywords.items() if k != "dbname"}

    def create(self, *, extension: bool = True) -> str:
        """The name of a new database; without `extension`, pgvector is left for others to install."""
        name = f"vectable_test_{secrets.token_hex(6)}"
        if extension and not self._made:
            self.run(f"CREATE DATABASE {quote(self._template)} ENCODING 'UTF8' TEMPLATE template0")
            self.run("CREATE EXTENSION vector", self._template)
            self._made = True
        template = quote(self._template) if extension else "template0"
        self.run(f"CREATE DATABASE {quote(name)} ENCODING 'UTF8' TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        """Removes a database, whoever is still connected to it."""
        self.run(f"DROP DATABASE IF EXISTS {quote(name)} WITH (FORCE)")

    def close(self) -> None:
        """Removes what was made beside the databases handed out."""
        if self._made:
            self.drop(self._template)
        if self._kept is not None:
            self._runner.run(self._kept.close())
        self._runner.close()

    def run(self, statement: str, database: str | None = None) -> None:
        """Runs a statement as the role that makes the databases; not from within an event loop."""

        self._runner.run(self._execute(statement, database))

    async def _execute(self, statement: str, database: str | None) -> None:
        if database is not None:
            connection = await self._connect(database=database)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()
            return
        # One connection serves every test: a server makes a process for each.
        if self._kept is None or self._kept.is_closed():
            self._kept = await self._connect()
        await self._kept.execute(statement)

    async def _connect(self, **other: str) -> Any:
        return await asyncpg.connect(**{**self._address.arguments, **other}, timeout=30)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


@contextmanager
def test_databases() -> Iterator[PostgresDatabases]:
    """Databases on the server the environment names, else on one started for the purpose."""
    named = os.environ.get(VARIABLE)
    if named:
        with closing(PostgresDatabases(named)) as databases:
            yield databases
        return
    with temporary_server() as server, closing(PostgresDatabases(server.url())) as databases:
        yield databases


test_databases.__test__ = False  # type: ignore[attr-defined]


@contextmanager
def temporary_server(*, fsync: bool = False, **settings: str) -> Iterator[PostgresServer]:
    """A running server whose data are gone afterwards. A crash of it loses nothing committed; one of the
    machine may, without `fsync`."""
    directory = Path(tempfile.mkdtemp(prefix="vectable-pg-"))
    server = PostgresServer(
        directory,
        fsync=fsync,
        settings={"shared_buffers": "64MB", "max_connections": "120", "synchronous_commit": "on", **settings},
    )
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
