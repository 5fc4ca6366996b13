"""Backup while others write, and restore, whole or not at all."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vectable.drivers.sqlite import SqliteDriver, restore
from vectable.drivers.sqlite.migrations import VERSION
from vectable.errors import (
    AlreadyExists,
    BackendError,
    Conflict,
    DatabaseDamaged,
    DatabaseNewer,
    InvalidInput,
)
from vectable.state.sqlite import SqliteStateStore


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[SqliteDriver]:
    driver = SqliteDriver(tmp_path / "db", synchronous="normal")
    driver.open()
    yield driver
    await driver.close()


async def values(directory: Path) -> dict[str, bytes]:
    driver = SqliteDriver(directory)
    driver.open()
    entries = await SqliteStateStore(driver).scan("")
    await driver.close()
    return {key: entry.value for key, entry in entries.items()}


def incarnation(driver: SqliteDriver) -> str:
    with driver.reading() as connection:
        row = connection.execute("SELECT value FROM meta WHERE name = 'incarnation'").fetchone()
    return str(row[0])


async def test_a_backup_is_one_file_that_restores_to_the_same(driver: SqliteDriver, tmp_path: Path) -> None:
    store = SqliteStateStore(driver)
    await store.commit(puts={f"k{n}": os.urandom(20_000) for n in range(600)})
    before = {key: entry.value for key, entry in (await store.scan("")).items()}
    steps: list[tuple[int, int]] = []
    home = tmp_path / "backups"
    home.mkdir()
    await driver.backup(home / "one.backup", progress=lambda done, total: steps.append((done, total)))
    assert [path.name for path in home.iterdir()] == ["one.backup"]
    assert steps == sorted(steps)
    assert len(steps) > 1
    assert steps[-1][0] == steps[-1][1]
    await store.commit(puts={"k0": b"later"})
    restore(home / "one.backup", tmp_path / "restored")
    assert await values(tmp_path / "restored") == before
    assert [path.name for path in home.iterdir()] == ["one.backup"]
    assert {p.name for p in (tmp_path / "restored").iterdir()} <= {"vectable.db", "indexes"}


async def test_a_backup_is_one_moment_while_others_write(driver: SqliteDriver, tmp_path: Path) -> None:
    store = SqliteStateStore(driver)
    other = SqliteDriver(driver.directory, synchronous="normal")
    other.open()
    await store.commit(puts={f"bulk{n}": os.urandom(50_000) for n in range(200)})
    stop, going = asyncio.Event(), asyncio.Event()

    async def keep_writing(store: SqliteStateStore) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            # Two keys that always change together.
            await store.commit(puts={"left": str(count).encode(), "right": str(count).encode()})
            going.set()

    writer = asyncio.ensure_future(keep_writing(SqliteStateStore(other)))
    await going.wait()
    for n in range(3):
        await driver.backup(tmp_path / f"{n}.backup")
    stop.set()
    await writer
    for n in range(3):
        restore(tmp_path / f"{n}.backup", tmp_path / f"restored{n}")
        found = await values(tmp_path / f"restored{n}")
        assert found["left"] == found["right"]
        assert len(found) == 202
    await other.close()


async def test_a_backup_never_overwrites_unless_told(driver: SqliteDriver, tmp_path: Path) -> None:
    target = tmp_path / "b"
    target.write_text("precious")
    with pytest.raises(AlreadyExists):
        await driver.backup(target)
    assert target.read_text() == "precious"
    await driver.backup(target, overwrite=True)
    restore(target, tmp_path / "restored")


async def test_places_a_backup_cannot_go_to(driver: SqliteDriver, tmp_path: Path) -> None:
    for target in (tmp_path, tmp_path / "missing" / "b", driver.file, driver.directory / "b"):
        with pytest.raises(InvalidInput):
            await driver.backup(target, overwrite=True)
    assert driver.directory.exists()


async def test_a_failing_backup_leaves_nothing(driver: SqliteDriver, tmp_path: Path) -> None:
    await SqliteStateStore(driver).commit(puts={"bulk": os.urandom(20_000_000)})
    home = tmp_path / "backups"
    home.mkdir()

    def stop(done: int, total: int) -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        await driver.backup(home / "b", progress=stop)
    assert list(home.iterdir()) == []
    assert (await SqliteStateStore(driver).get(["bulk"]))["bulk"].revision


async def test_restoring_over_a_database_needs_to_be_told(driver: SqliteDriver, tmp_path: Path) -> None:
    store = SqliteStateStore(driver)
    await store.commit(puts={"a": b"old"})
    await driver.backup(tmp_path / "b")
    await store.commit(puts={"a": b"new"})
    with pytest.raises(AlreadyExists):
        restore(tmp_path / "b", driver.directory)
    assert (await store.get(["a"]))["a"].value == b"new"


async def test_an_open_database_sees_what_was_restored(driver: SqliteDriver, tmp_path: Path) -> None:
    store = SqliteStateStore(driver)
    await store.commit(puts={"a": b"old"})
    await driver.backup(tmp_path / "b")
    await store.commit(puts={"a": b"new", "c": b"1"})
    (driver.index_directory / "derived").write_text("x")
    before, identity = await store.scan(""), driver.identity
    was = incarnation(driver)
    restore(tmp_path / "b", driver.directory, overwrite=True)
    after = await store.scan("")
    assert {key: entry.value for key, entry in after.items()} == {"a": b"old"}
    assert incarnation(driver) != was
    assert not (driver.index_directory / "derived").exists()
    # A revision read before the restore guards nothing any more, nor does the backup's own.
    for revision in range(1, before["a"].revision + 1):
        with pytest.raises(Conflict):
            await store.commit(expects={"a": revision}, puts={"a": b"lost"})
    await store.commit(expects={"a": after["a"].revision}, puts={"a": b"on"})
    again = SqliteDriver(driver.directory)
    again.open()
    assert again.identity == identity
    await again.close()


async def test_restoring_into_an_empty_database_is_allowed(driver: SqliteDriver, tmp_path: Path) -> None:
    await SqliteStateStore(driver).commit(puts={"a": b"1"})
    await driver.backup(tmp_path / "b")
    empty = SqliteDriver(tmp_path / "empty")
    empty.open()
    restore(tmp_path / "b", tmp_path / "empty")
    assert {k: e.value for k, e in (await SqliteStateStore(empty).scan("")).items()} == {"a": b"1"}
    await empty.close()


@pytest.mark.parametrize("damage", [b"no database at all " * 1000, b""])
async def test_a_damaged_database_is_replaced(driver: SqliteDriver, tmp_path: Path, damage: bytes) -> None:
    await SqliteStateStore(driver).commit(puts={"a": b"1"})
    await driver.backup(tmp_path / "b")
    await driver.close()
    driver.file.write_bytes(damage)
    restore(tmp_path / "b", driver.directory, overwrite=True)
    assert await values(driver.directory) == {"a": b"1"}


async def test_what_is_no_backup_changes_nothing(driver: SqliteDriver, tmp_path: Path) -> None:
    store = SqliteStateStore(driver)
    await store.commit(puts={f"k{n}": os.urandom(3_000) for n in range(100)})
    good, bad = tmp_path / "good", tmp_path / "bad"
    await driver.backup(good)
    before = await store.scan("")

    def refused(error: type[BackendError | InvalidInput]) -> None:
        with pytest.raises(error) as caught:
            restore(bad, driver.directory, overwrite=True)
        assert error is DatabaseNewer or "made by vectable backup" in str(caught.value.hint)

    refused(InvalidInput)  # there is no such file
    bad.touch()
    refused(InvalidInput)
    bad.write_bytes(b"something else entirely" * 1000)
    refused(DatabaseDamaged)
    content = good.read_bytes()
    bad.write_bytes(content[: len(content) // 2 // 8192 * 8192])
    refused(DatabaseDamaged)
    middle = len(content) // 2 // 8192 * 8192
    bad.write_bytes(content[:middle] + b"\xee" * 16384 + content[middle + 16384 :])
    refused(DatabaseDamaged)
    bad.write_bytes(content)
    connection = sqlite3.connect(bad)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.commit()
    connection.close()
    refused(DatabaseNewer)
    foreign = sqlite3.connect(tmp_path / "foreign")
    foreign.execute("CREATE TABLE theirs (a)")
    foreign.commit()
    foreign.close()
    (tmp_path / "foreign").rename(bad)
    refused(InvalidInput)
    assert await store.scan("") == before
    assert {path.name for path in driver.directory.iterdir()} == {
        "vectable.db",
        "vectable.db-wal",
        "vectable.db-shm",
        "indexes",
    }


def test_places_a_backup_cannot_be_restored_to(tmp_path: Path) -> None:
    driver = SqliteDriver(tmp_path / "db")
    driver.open()
    asyncio.run(driver.backup(tmp_path / "b"))
    driver.close_now()
    for target in (tmp_path / "b", tmp_path / "missing" / "db"):
        with pytest.raises(InvalidInput):
            restore(tmp_path / "b", target, overwrite=True)


@pytest.mark.parametrize("content", [b"", b"no database at all" * 500, b"SQLite format 3\x00" + bytes(8_000)])
def test_a_bad_file_leaves_no_directory(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises((InvalidInput, DatabaseDamaged)):
        restore(tmp_path / "bad", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with pytest.raises((InvalidInput, DatabaseDamaged)):
        restore(tmp_path / "bad", tmp_path / "old")
    assert list((tmp_path / "old").iterdir()) == []
