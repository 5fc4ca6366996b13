"""PostgreSQL as a backend: the suite, against a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from vectable.backends.postgres import PostgresBackend
from vectable.drivers.postgres import PostgresDriver
from vectable.interfaces import Backend
from vectable.testing.backend_suite import BackendSuite, Reopen

_CONNECTIONS = 60
"""The suite holds 40 views at once, and writes."""


class TestPostgres(BackendSuite):
    @pytest.fixture
    async def drivers(self, postgres_url: str) -> AsyncIterator[list[PostgresDriver]]:
        drivers = [PostgresDriver(postgres_url, pool_least=1, pool_most=_CONNECTIONS)]
        yield drivers
        for driver in drivers:
            await driver.close()

    @pytest.fixture
    async def backend(self, drivers: list[PostgresDriver]) -> PostgresBackend:
        backend = PostgresBackend(drivers[0])
        await backend.open()
        return backend

    @pytest.fixture
    def reopen(self, backend: PostgresBackend, drivers: list[PostgresDriver]) -> Reopen:
        async def reopened() -> Backend:
            await backend.close()
            drivers.append(PostgresDriver(drivers[0].address, pool_least=1, pool_most=_CONNECTIONS))
            again = PostgresBackend(drivers[-1])
            await again.open()
            return again

        return reopened
