"""Opening, reading, writing and closing SQLite databases, and everything that can be wrong with one."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from tests.drivers.notes import add, bodies, create
from vectable.drivers.sqlite import SqliteDriver
from vectable.drivers.sqlite.migrations import APPLICATION_ID, VERSION
from vectable.errors import (
    BackendBusy,
    BackendError,
    InvalidInput,
    InvalidRow,
    VectableError,
)

# --- opening


def test_opening_makes_the_directory_and_the_same_database_again(tmp_path: Path) -> None:
    first = SqliteDriver(tmp_path / "new")
    first.open()
    first.open()
    first.close_now()
    again = SqliteDriver(tmp_path / "new")
    again.open()
    assert len(first.identity) == 32
    assert again.identity == first.identity
    assert (tmp_path / "new" / "indexes").is_dir()
    again.close_now()
    other = SqliteDriver(tmp_path / "other")
    other.open()
    assert other.identity != first.identity
    other.close_now()


def test_the_file_names_its_program_and_format(driver: SqliteDriver) -> None:
    with driver.reading() as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA page_size").fetchone() == (8192,)


@pytest.mark.parametrize(("setting", "level"), [("full", 2), ("normal", 1)])
async def test_a_commit_waits_for_the_disk_as_the_setting_says(
    tmp_path: Path, setting: str, level: int
) -> None:
    driver = SqliteDriver(tmp_path / "db", synchronous=setting)  # type: ignore[arg-type]
    driver.open()
    assert await driver.write(lambda c: c.execute("PRAGMA synchronous").fetchone()) == (level,)
    await driver.close()


def test_odd_directory_names_are_taken_literally(tmp_path: Path) -> None:
    for name in ("a b", "100%", "%41", "q?mode=memory", "a#b", "naïve-日本", "semi;colon", "'quote'"):
        driver = SqliteDriver(tmp_path / name)
        driver.open()
        driver.close_now()
        assert (tmp_path / name / "vectable.db").is_file()


def test_what_cannot_hold_a_database_is_invalid_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "odd" / "vectable.db").mkdir(parents=True)
    for path in (tmp_path / "file", tmp_path / "missing" / "db", tmp_path / "odd", tmp_path / "file" / "db"):
        with pytest.raises(InvalidInput) as caught:
            SqliteDriver(path).open()
        assert caught.value.hint
    with pytest.raises(InvalidInput):
        SqliteDriver("")
    with pytest.raises(InvalidInput):
        SqliteDriver(tmp_path / "db", synchronous="off")  # type: ignore[arg-type]


def test_many_processes_create_one_database(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        from vectable.drivers.sqlite import SqliteDriver
        driver = SqliteDriver(sys.argv[1]); driver.open(); print(driver.identity); driver.close_now()
    """)
    command = [sys.executable, "-c", script, str(tmp_path / "db")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    answers = [process.communicate()[0].strip() for process in started]
    assert [process.returncode for process in started] == [0] * 5
    assert len(set(answers)) == 1


def test_threads_may_open_at_once(tmp_path: Path) -> None:
    driver = SqliteDriver(tmp_path / "db")
    threads = [threading.Thread(target=driver.open) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert driver.identity
    driver.close_now()


# --- writing


async def test_a_write_is_seen_by_the_next_read_everywhere(driver: SqliteDriver) -> None:
    other = SqliteDriver(driver.directory)
    other.open()
    for number in range(20):
        await (driver if number % 2 else other).write(add(number))
        assert bodies(driver) == bodies(other) == list(range(number + 1))
    await other.close()


async def test_in_a_group_only_the_failing_write_is_undone(driver: SqliteDriver) -> None:
    class OwnError(Exception):
        pass

    def failing(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes (body) VALUES ('half')")
        raise OwnError

    started = threading.Event()
    # Holds the writer until everything is queued, so that what follows is one group.
    first = asyncio.ensure_future(driver.write(lambda _: started.wait(100)))
    await asyncio.sleep(0.05)
    rest = [asyncio.ensure_future(driver.write(failing if n % 3 == 1 else add(n))) for n in range(9)]
    await asyncio.sleep(0.05)
    started.set()
    assert await first is True
    outcomes = await asyncio.gather(*rest, return_exceptions=True)
    assert [n for n, o in enumerate(outcomes) if isinstance(o, OwnError)] == [1, 4, 7]
    assert bodies(driver) == [0, 2, 3, 5, 6, 8]


async def test_a_write_that_loses_the_transaction_harms_no_other(driver: SqliteDriver) -> None:
    def rolls_everything_back(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes (body) VALUES ('gone')")
        connection.execute("INSERT OR ROLLBACK INTO notes (id, body) SELECT id, 1 FROM notes LIMIT 1")

    started = threading.Event()
    first = asyncio.ensure_future(driver.write(lambda _: started.wait(100)))
    await asyncio.sleep(0.05)
    jobs = [add("a"), rolls_everything_back, add("b")]
    rest = [asyncio.ensure_future(driver.write(job)) for job in jobs]  # type: ignore[arg-type]
    await asyncio.sleep(0.05)
    started.set()
    await first
    outcomes = await asyncio.gather(*rest, return_exceptions=True)
    assert [isinstance(o, BackendError) for o in outcomes] == [False, True, False]
    assert bodies(driver) == ["a", "b"]


async def test_a_cancelled_write_commits_before_the_caller_is_cancelled(driver: SqliteDriver) -> None:
    going, proceed = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes (body) VALUES ('kept')")
        going.set()
        proceed.wait(100)

    task = asyncio.ensure_future(driver.write(slow))
    await asyncio.to_thread(going.wait)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.01)
    assert not task.done()
    proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bodies(driver) == ["kept"]


async def test_many_writes_at_once_all_land_once(driver: SqliteDriver) -> None:
    ids = await asyncio.gather(*(driver.write(add(n)) for n in range(500)))
    assert sorted(ids) == list(range(1, 501))
    assert sorted(bodies(driver)) == list(range(500))  # type: ignore[type-var]


async def test_values_that_cannot_be_stored_are_errors_of_ours(driver: SqliteDriver) -> None:
    for value in (1 << 63, "\ud800"):
        with pytest.raises(InvalidRow):
            await driver.write(add(value))
    await driver.write(add((1 << 63) - 1))
    await driver.write(add(-(1 << 63)))
    assert bodies(driver) == [(1 << 63) - 1, -(1 << 63)]


async def test_readers_cannot_write(driver: SqliteDriver) -> None:
    with pytest.raises(VectableError), driver.reading() as connection:
        connection.execute("INSERT INTO notes (body) VALUES (1)")
    assert bodies(driver) == []


async def test_a_reader_sees_one_moment_and_leaves_nothing_behind(driver: SqliteDriver) -> None:
    await driver.write(add("before"))
    with driver.reading() as connection:
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (1,)
        await driver.write(add("after"))
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (1,)
    assert bodies(driver) == ["before", "after"]


async def test_another_process_holding_on_is_busy_not_an_endless_wait(driver: SqliteDriver) -> None:
    impatient = SqliteDriver(driver.directory, busy_timeout_s=0.2)
    impatient.open()
    holder = sqlite3.connect(driver.file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(BackendBusy) as caught:
        await impatient.write(add(1))
    assert caught.value.retryable
    holder.execute("ROLLBACK")
    holder.close()
    await impatient.write(add(2))
    assert bodies(driver) == [2]
    await impatient.close()


# --- closing


async def test_closing_finishes_what_is_queued(tmp_path: Path) -> None:
    driver = SqliteDriver(tmp_path / "db")
    driver.open()
    await driver.write(create)
    writes = [asyncio.ensure_future(driver.write(add(n))) for n in range(50)]
    await asyncio.sleep(0)
    await driver.close()
    await driver.close()
    await asyncio.gather(*writes)
    with pytest.raises(BackendError, match="closed"):
        bodies(driver)
    with pytest.raises(BackendError, match="closed"):
        await driver.write(add(1))
    with pytest.raises(BackendError, match="closed"):
        driver.open()
    again = SqliteDriver(tmp_path / "db")
    again.open()
    assert sorted(bodies(again)) == list(range(50))  # type: ignore[type-var]
    await again.close()


def run_script(script: str, directory: Path) -> str:
    command = [sys.executable, "-c", textwrap.dedent(script), str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.strip()


async def test_a_program_that_forgets_to_close_ends_and_loses_nothing(driver: SqliteDriver) -> None:
    script = """
        import sys
        from vectable.drivers.sqlite import SqliteDriver
        driver = SqliteDriver(sys.argv[1]); driver.open()
        for n in range(100):
            driver._submit(lambda c: c.execute("INSERT INTO notes (body) VALUES ('queued')") and None)
        print("end")
    """
    assert run_script(script, driver.directory) == "end"
    assert bodies(driver) == ["queued"] * 100


async def test_a_forked_child_is_told_to_open_its_own(driver: SqliteDriver) -> None:
    script = """
        import os, sys
        from vectable.drivers.sqlite import SqliteDriver
        from vectable.errors import BackendError
        driver = SqliteDriver(sys.argv[1]); driver.open()
        driver.write_now(lambda c: None)
        child = os.fork()
        if child == 0:
            told = 0
            for attempt in (driver.take, lambda: driver.write_now(lambda c: None)):
                try:
                    attempt()
                except BackendError as error:
                    told += "forked" in str(error)
            driver.close_now()
            own = SqliteDriver(sys.argv[1]); own.open(); own.close_now()
            os._exit(10 + told)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        driver.write_now(lambda c: None)
    """
    assert run_script(script, driver.directory) == "12"


# --- the log


async def test_the_log_does_not_grow_with_what_was_written(driver: SqliteDriver) -> None:
    wal = Path(f"{driver.file}-wal")
    for _ in range(40):
        await driver.write(add(os.urandom(1 << 20)))
    assert wal.stat().st_size < 24 << 20
    await driver.checkpoint()
    assert wal.stat().st_size == 0


async def test_space_comes_back_after_much_was_deleted(driver: SqliteDriver) -> None:
    await driver.write(add(os.urandom(8 << 20)))
    await driver.checkpoint()
    full = driver.file.stat().st_size
    await driver.write(lambda c: c.execute("DELETE FROM notes") and None)
    await driver.checkpoint()
    assert driver.file.stat().st_size < full // 4
