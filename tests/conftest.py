"""What holds for every test: a clean environment, and properties that repeat themselves exactly."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from vectable.testing.postgres_server import PostgresDatabases

_SETTINGS_OF_OURS = ("VECTABLE_",)
_TEST_SERVER = "VECTABLE_TEST_POSTGRES_URL"
_ALIASES = (
    "APP_USE_FAKE_EMBEDDINGS",
    "BATCH_SIZE",
    "CACHE_MAX_SIZE",
    "CACHE_TTL",
    "IMAGE_MODEL",
    "MAX_WORKERS",
    "NODE_ENV",
    "PORT",
    "TEXT_MODEL",
)

# Both profiles leave slow machines alone: a deadline or a health check that fires under load proves nothing.
_PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("ci", derandomize=True, database=None, max_examples=50, **_PATIENT)
settings.register_profile("thorough", max_examples=2_000, **_PATIENT)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config: pytest.Config) -> None:
    """Forget settings of the person who runs the tests, before any module reads them at import; and hear
    Ctrl-C, which a shell has programs ignore that it starts in the background, with all they start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in list(os.environ):
        if (name.startswith(_SETTINGS_OF_OURS) and name != _TEST_SERVER) or name in _ALIASES:
            del os.environ[name]


@pytest.fixture(scope="session")
def postgres_databases() -> Iterator[PostgresDatabases]:
    """Fresh databases on a real PostgreSQL with pgvector, started when the first test asks."""
    from vectable.testing.postgres_server import test_databases

    with test_databases() as databases:
        yield databases


@pytest.fixture
def postgres_url(postgres_databases: PostgresDatabases) -> Iterator[str]:
    """The address of an empty database with pgvector, on a real server; gone after the test."""
    name = postgres_databases.create()
    yield postgres_databases.url_of(name)
    postgres_databases.drop(name)
