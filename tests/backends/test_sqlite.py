"""SQLite as a backend: the suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vectable.backends.sqlite import SqliteBackend
from vectable.drivers.sqlite import SqliteDriver
from vectable.interfaces import Backend
from vectable.testing.backend_suite import BackendSuite, Reopen


class TestSqlite(BackendSuite):
    @pytest.fixture
    async def drivers(self, tmp_path: Path) -> AsyncIterator[list[SqliteDriver]]:
        drivers = [SqliteDriver(tmp_path / "db", synchronous="normal")]
        yield drivers
        for driver in drivers:
            await driver.close()

    @pytest.fixture
    async def backend(self, drivers: list[SqliteDriver]) -> SqliteBackend:
        backend = SqliteBackend(drivers[0])
        await backend.open()
        return backend

    @pytest.fixture
    def reopen(self, backend: SqliteBackend, drivers: list[SqliteDriver]) -> Reopen:
        async def reopened() -> Backend:
            await backend.close()
            drivers.append(SqliteDriver(drivers[0].directory, synchronous="normal"))
            again = SqliteBackend(drivers[-1])
            await again.open()
            return again

        return reopened
