"""Fixtures for SQLite databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.drivers.notes import create
from vectable.drivers.sqlite import SqliteDriver


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[SqliteDriver]:
    """An open database with an empty table of notes."""
    driver = SqliteDriver(tmp_path / "db")
    driver.open()
    await driver.write(create)
    yield driver
    await driver.close()
