"""Every test has a database of its own, in a directory or a PostgreSQL server, and programs over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.programs import Programs


@pytest.fixture
def place() -> str:
    """Where the database is: tests that are about servers too have it as a parameter."""
    return "directory"


@pytest.fixture
def programs(tmp_path: Path, place: str, request: pytest.FixtureRequest) -> Iterator[Programs]:
    started = Programs(tmp_path, request.getfixturevalue("postgres_url") if place == "server" else None)
    yield started
    started.end()
