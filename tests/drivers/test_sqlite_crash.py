"""kill -9 at any moment: nothing acknowledged is lost, nothing half done is seen, nothing needs repair."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vectable.drivers.sqlite import SqliteDriver, restore

WRITER = """
import asyncio, os, sys
from vectable.drivers.sqlite import SqliteDriver

directory, log, who = sys.argv[1:]

async def main():
    driver = SqliteDriver(directory); driver.open()
    acknowledged = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def write(number):
        def run(connection):
            # Two rows that belong together, and a large one, so that the log is often moved into the file.
            connection.execute("INSERT INTO notes VALUES (?, ?, 'left')", (who, number))
            connection.execute("INSERT INTO notes VALUES (?, ?, zeroblob(60000))", (who, number))
        await driver.write(run)
        os.write(acknowledged, f"{who} {number}\\n".encode())

    number = 0
    print("going", flush=True)
    while True:
        await asyncio.gather(*(write(number + i) for i in range(7)))
        number += 7

asyncio.run(main())
"""


def prepare(directory: Path) -> None:
    driver = SqliteDriver(directory)
    driver.open()
    driver.write_now(lambda c: c.execute("CREATE TABLE notes (who TEXT, number INTEGER, body)") and None)
    driver.close_now()


def start(directory: Path, log: Path, who: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(directory), str(log), who]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def check(directory: Path, log: Path) -> int:
    """Opens the database as anybody would, and compares it with what was acknowledged."""
    driver = SqliteDriver(directory)
    driver.open()
    with driver.reading() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counts = connection.execute("SELECT who, number, count(*) FROM notes GROUP BY 1, 2").fetchall()
    driver.close_now()
    assert all(count == 2 for _, _, count in counts)
    acknowledged = log.read_text().splitlines() if log.exists() else []
    stored = {f"{who} {number}" for who, number, _ in counts}
    assert stored.issuperset(acknowledged)
    return len(acknowledged)


@pytest.mark.slow
def test_killed_writers_lose_nothing_acknowledged(tmp_path: Path) -> None:
    prepare(tmp_path / "db")
    log, chance, total = tmp_path / "acknowledged", random.Random(7), 0
    for round_ in range(5):
        writers = [start(tmp_path / "db", log, f"{round_}-{who}") for who in "ab"]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "going\n"
        while not log.exists() or len(log.read_text().splitlines()) <= total:
            time.sleep(0.005)
        time.sleep(chance.uniform(0.0, 0.25))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            writer.communicate()
        total = check(tmp_path / "db", log)
    assert total >= 5


OPENER = """
import sys
from vectable.drivers.sqlite import SqliteDriver
print("going", flush=True)
driver = SqliteDriver(sys.argv[1]); driver.open()
"""


@pytest.mark.slow
def test_a_database_killed_while_it_is_made_is_made_by_the_next(tmp_path: Path) -> None:
    chance = random.Random(11)
    for round_ in range(8):
        directory = tmp_path / f"db{round_}"
        opener = subprocess.Popen(
            [sys.executable, "-c", OPENER, str(directory)], stdout=subprocess.PIPE, text=True
        )
        assert opener.stdout is not None
        assert opener.stdout.readline() == "going\n"
        time.sleep(chance.uniform(0.0, 0.02))
        opener.kill()
        opener.communicate()
        prepare(directory)
        assert check(directory, tmp_path / "none") == 0


RESTORER = """
import os, signal, sys, threading
from vectable.drivers.sqlite import backup

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

stage = sys.argv[3]
if stage.startswith("before "):
    setattr(backup, stage.removeprefix("before "), die)
elif stage.startswith("after "):
    name = stage.removeprefix("after ")
    done = getattr(backup, name)
    setattr(backup, name, lambda *arguments: (done(*arguments), die()))
else:
    threading.Timer(float(stage), die).start()
backup.restore(sys.argv[1], sys.argv[2], overwrite=True)
die()
"""


def one_note(directory: Path, note: str) -> None:
    driver = SqliteDriver(directory)
    driver.open()
    driver.write_now(lambda c: c.execute("DELETE FROM notes") and None)
    insert = "INSERT INTO notes VALUES (?, 1, zeroblob(3000000))"
    driver.write_now(lambda c: c.execute(insert, (note,)) and None)
    driver.close_now()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "left"),
    [
        ("before _check_integrity", {"old"}),
        ("before _begin_new_incarnation", {"old"}),
        ("before _overwrite_through_sqlite", {"old"}),
        ("after _overwrite_through_sqlite", {"restored"}),
        *[(str(delay), {"old", "restored"}) for delay in (0.002, 0.006, 0.012, 0.02, 0.03)],
    ],
)
def test_a_killed_restore_leaves_the_old_or_the_new(tmp_path: Path, stage: str, left: set[str]) -> None:
    prepare(tmp_path / "db")
    one_note(tmp_path / "db", "restored")
    driver = SqliteDriver(tmp_path / "db")
    driver.open()
    asyncio.run(driver.backup(tmp_path / "backup"))
    driver.close_now()
    one_note(tmp_path / "db", "old")
    command = [sys.executable, "-c", RESTORER, str(tmp_path / "backup"), str(tmp_path / "db"), stage]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    driver = SqliteDriver(tmp_path / "db")
    driver.open()
    with driver.reading() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ((note,),) = connection.execute("SELECT who FROM notes").fetchall()
    assert note in left
    driver.close_now()
    restore(tmp_path / "backup", tmp_path / "db", overwrite=True)
    assert [path.name for path in (tmp_path / "db").iterdir() if "restoring" in path.name] == []
