"""Files of every older format become ours, whoever opens them first."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from vectable.drivers.sqlite import SqliteDriver
from vectable.drivers.sqlite.connections import connect, use_wal
from vectable.drivers.sqlite.migrations import MIGRATIONS, VERSION, migrate, version_of
from vectable.state.sqlite import SqliteStateStore, SqliteVectorCache


def opened(directory: Path) -> sqlite3.Connection:
    directory.mkdir(exist_ok=True)
    connection = connect(directory / "vectable.db", "write", busy_timeout_s=30, create=True)
    use_wal(connection, 0)
    return connection


def schema(directory: Path) -> list[tuple[str, str]]:
    connection = opened(directory)
    rows = connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
    connection.close()
    return rows


@pytest.mark.parametrize("version", range(VERSION))
async def test_a_file_of_an_older_format_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    connection = opened(old)
    assert migrate(connection, old, upto=version) == version
    if version:
        connection.execute("INSERT INTO state VALUES ('kept', x'01', 7)")
    connection.close()
    for directory in (old, new):
        driver = SqliteDriver(directory)
        driver.open()
        store = SqliteStateStore(driver)
        if directory == old and version:
            assert (await store.get(["kept"]))["kept"].value == b"\x01"
        await SqliteVectorCache(driver).put_many({b"k": b"vector"}, "m")
        assert await SqliteVectorCache(driver).size() == (1, 6)
        await driver.close()
    assert schema(old) == schema(new)


def test_migrating_again_does_nothing(tmp_path: Path) -> None:
    connection = opened(tmp_path / "db")
    assert migrate(connection, tmp_path) == VERSION
    before = connection.total_changes
    assert migrate(connection, tmp_path) == 0
    assert connection.total_changes == before
    assert version_of(connection, tmp_path) == VERSION
    connection.close()


def test_a_step_that_fails_leaves_the_step_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (MIGRATIONS[0], ("CREATE TABLE half (a)", "this is not sql"))
    monkeypatch.setattr("vectable.drivers.sqlite.migrations.MIGRATIONS", broken)
    connection = opened(tmp_path / "db")
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, tmp_path, upto=2)
    assert not connection.in_transaction
    assert version_of(connection, tmp_path) == 1
    monkeypatch.undo()
    assert migrate(connection, tmp_path) == VERSION - 1
    connection.close()


def test_of_many_who_migrate_at_once_each_step_is_taken_by_one(tmp_path: Path) -> None:
    connections = [opened(tmp_path / "db") for _ in range(6)]
    taken: list[int] = []
    threads = [threading.Thread(target=lambda c=c: taken.append(migrate(c, tmp_path))) for c in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == VERSION
    assert len(taken) == 6
    for connection in connections:
        connection.close()
