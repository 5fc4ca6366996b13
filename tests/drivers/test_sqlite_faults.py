"""Files that are not ours or no longer whole, full disks, directories that may not be written."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.notes import add, bodies, create
from vectable.drivers.sqlite import SqliteDriver
from vectable.drivers.sqlite.migrations import VERSION
from vectable.errors import DatabaseDamaged, DatabaseNewer, DiskFull, InvalidInput


def header(driver: SqliteDriver, statement: str) -> None:
    connection = sqlite3.connect(driver.file)
    connection.execute(statement)
    connection.commit()
    connection.close()


# --- what is not ours, or no longer whole


async def test_a_newer_format_is_refused_before_anything_is_written(driver: SqliteDriver) -> None:
    await driver.close()
    header(driver, f"PRAGMA user_version = {VERSION + 1}")
    before = driver.file.read_bytes()
    with pytest.raises(DatabaseNewer) as caught:
        SqliteDriver(driver.directory).open()
    assert caught.value.context["format"] == VERSION + 1
    assert "upgrade" in str(caught.value)
    assert driver.file.read_bytes() == before


async def test_the_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    file = tmp_path / "db" / "vectable.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE theirs (a)")
    connection.commit()
    connection.close()
    before = file.read_bytes()
    with pytest.raises(InvalidInput, match="another program"):
        SqliteDriver(tmp_path / "db").open()
    assert file.read_bytes() == before


def test_a_file_that_is_no_database_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "vectable.db").write_bytes(b"certainly not a database, and long enough to tell" * 100)
    with pytest.raises(DatabaseDamaged, match="vectable restore"):
        SqliteDriver(tmp_path).open()


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    (tmp_path / "vectable.db").touch()
    driver = SqliteDriver(tmp_path)
    driver.open()
    assert driver.identity
    driver.close_now()


@pytest.mark.parametrize("harm", ["truncated", "scribbled"])
async def test_damage_inside_the_file_is_told_when_it_is_met(driver: SqliteDriver, harm: str) -> None:
    for _ in range(20):
        await driver.write(add(os.urandom(50_000)))
    await driver.close()
    size = driver.file.stat().st_size
    with driver.file.open("r+b") as file:
        if harm == "truncated":
            file.truncate(size // 2 // 8192 * 8192)
        else:
            file.seek(8192)
            file.write(b"\xff" * (size - 8192))
    again = SqliteDriver(driver.directory)

    def read() -> None:
        again.open()
        bodies(again)

    with pytest.raises(DatabaseDamaged) as caught:
        read()
    assert "restore" in (caught.value.hint or "")
    again.close_now()


# --- a full disk


async def test_a_full_database_refuses_and_keeps_what_was_acknowledged(driver: SqliteDriver) -> None:
    def limit(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 5}")

    await driver.write(add("kept"))
    await driver.write(limit)
    outcomes = await asyncio.gather(
        driver.write(add("small")), driver.write(add(b"x" * 500_000)), return_exceptions=True
    )
    assert isinstance(outcomes[1], DiskFull)
    assert outcomes[1].retryable
    assert outcomes[0] == 2
    assert bodies(driver) == ["kept", "small"]
    await driver.write(lambda c: c.execute("PRAGMA max_page_count = 1000000") and None)
    await driver.write(add("more"))
    assert bodies(driver) == ["kept", "small", "more"]


FULL = """
import asyncio, resource, sys
from vectable.drivers.sqlite import SqliteDriver
from vectable.errors import DiskFull

async def main():
    driver = SqliteDriver(sys.argv[1]); driver.open()
    await driver.write(lambda c: c.execute("INSERT INTO notes (body) VALUES ('kept')") and None)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    try:
        large = "INSERT INTO notes (body) VALUES (zeroblob(2000000))"
        await driver.write(lambda c: c.execute(large) and None)
    except DiskFull as error:
        print("full", error.retryable)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await driver.write(lambda c: c.execute("INSERT INTO notes (body) VALUES ('again')") and None)
    await driver.close()

asyncio.run(main())
"""


async def test_a_full_file_system_is_told_and_survived(driver: SqliteDriver) -> None:
    command = [sys.executable, "-c", FULL, str(driver.directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("full True", 0), done.stderr
    assert bodies(driver) == ["kept", "again"]


# --- read-only directories


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user may enter."""
    path = Path(tempfile.mkdtemp(prefix="vectable-"))
    path.chmod(0o755)
    yield path
    for entry in [path, *path.rglob("*")]:
        if entry.is_dir():
            entry.chmod(0o755)
    shutil.rmtree(path)


READ_ONLY = """
import asyncio, os, sys
from vectable.drivers.sqlite import SqliteDriver, restore
from vectable.errors import VectableError, ReadOnlyDatabase
# Imports what is needed later: another user may not reach the interpreter's own files.
asyncio.run(asyncio.to_thread(int))
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)

async def main():
    driver = SqliteDriver(sys.argv[1])
    try:
        driver.open()
        print(driver.read_only)
        with driver.reading() as connection:
            print([row[0] for row in connection.execute("SELECT body FROM notes").fetchall()])
        await driver.checkpoint()
        await driver.write(lambda c: c.execute("INSERT INTO notes (body) VALUES (1)"))
    except ReadOnlyDatabase as error:
        print(type(error).__name__, bool(error.hint))
    await driver.close()

asyncio.run(main())
"""


def as_nobody(directory: Path) -> list[str]:
    command = [sys.executable, "-c", READ_ONLY, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def make_read_only(directory: Path) -> None:
    for entry in directory.iterdir():
        entry.chmod(0o555 if entry.is_dir() else 0o444)
    directory.chmod(0o555)


async def test_a_read_only_directory_can_be_read(public: Path) -> None:
    driver = SqliteDriver(public / "db")
    driver.open()
    await driver.write(create)
    await driver.write(add("there"))
    await driver.close()
    make_read_only(driver.directory)
    assert as_nobody(driver.directory) == ["True", "['there']", "ReadOnlyDatabase True"]


async def test_a_read_only_directory_can_be_read_while_its_owner_writes(public: Path) -> None:
    driver = SqliteDriver(public / "db")
    driver.open()
    await driver.write(create)
    await driver.write(add("there"))
    make_read_only(driver.directory)
    assert as_nobody(driver.directory) == ["True", "['there']", "ReadOnlyDatabase True"]
    await driver.write(add("later"))
    assert as_nobody(driver.directory)[1] == "['there', 'later']"
    await driver.close()


def test_a_read_only_directory_without_a_database_says_so(public: Path) -> None:
    (public / "db").mkdir()
    make_read_only(public / "db")
    assert as_nobody(public / "db") == ["ReadOnlyDatabase True"]
    public.chmod(0o555)
    assert as_nobody(public / "new") == ["ReadOnlyDatabase True"]
