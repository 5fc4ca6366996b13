"""Databases that nobody closes: at the end of the interpreter, collected, after a fork, on Ctrl-C."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import LIMIT_S, until
from vectable import connect
from vectable.errors import Unsupported


def python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a script in a fresh interpreter with all warnings: what is left open shows on standard error."""
    command = [sys.executable, "-W", "always", "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_a_script_that_never_closes_ends_cleanly_and_its_work_is_taken_up(tmp_path: Path) -> None:
    done = python(
        """
        import sys, vectable
        db = vectable.connect(sys.argv[1], fake_embeddings=True)
        table = db.create_table("notes", {"text": "string"})
        table.add_embedding_column("meaning", source="text")
        result = table.insert([{"text": f"note {i}"} for i in range(3000)], wait=False)
        print(result.inserted, result.job is not None)
        """,
        tmp_path / "db",
    )
    assert (done.stdout, done.stderr, done.returncode) == ("3000 True\n", "", 0)
    with connect(tmp_path / "db", fake_embeddings=True) as db:
        table = db.table("notes")
        table.insert({"text": "one more wakes the rest"})
        for job in db.jobs():
            db.wait(job.id)
        table.refresh("meaning")
        assert table.states("meaning")["ready"] == 3001


def test_an_error_in_a_script_is_all_it_shows(tmp_path: Path) -> None:
    done = python(
        """
        import sys, vectable
        db = vectable.connect(sys.argv[1], fake_embeddings=True)
        rows = db.create_table("notes", {"text": "string"}).stream_it
        """,
        tmp_path / "db",
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "vectable.errors.UnknownColumn: table 'notes' has no column"
    )
    assert "Exception ignored" not in done.stderr


def test_what_nothing_refers_to_is_closed(tmp_path: Path) -> None:
    db = connect(tmp_path / "db")
    inner = db._database
    table = db.create_table("notes", {"text": "string"})
    del db
    gc.collect()
    assert table.count() == 0
    del table
    gc.collect()
    until(lambda: inner.closed)


def test_a_forked_child_is_told_and_may_connect_anew(tmp_path: Path) -> None:
    done = python(
        """
        import os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import vectable
        db = vectable.connect(sys.argv[1])
        table = db.create_table("notes", {"text": "string"})
        table.insert({"text": "x"})
        pid = os.fork()
        if pid == 0:
            for use in (table.count, table.limit(1).collect, db.close):
                try:
                    use()
                except vectable.errors.Unsupported as error:
                    print(error.detail.split(":")[0], flush=True)
            with vectable.connect(sys.argv[1]) as mine:
                print(mine.table("notes").count(), flush=True)
            del db, table
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        print("parent", table.count())
        """,
        tmp_path / "db",
    )
    told = "this handle belongs to another process"
    assert (done.stdout.splitlines(), done.stderr) == ([told, told, told, "1", "parent 1"], "")


def test_ctrl_c_while_rows_are_drawn_keeps_what_landed(tmp_path: Path) -> None:
    closed: list[bool] = []

    def rows() -> Iterator[dict[str, Any]]:
        try:
            for i in range(10_000):
                if i == 5_000:
                    # The batch before is written meanwhile: Ctrl-C comes when it has landed.
                    while table.count() < 4_000:
                        time.sleep(0.01)
                    signal.raise_signal(signal.SIGINT)
                yield {"id": f"{i:05}", "text": "x"}
        finally:
            closed.append(True)

    with connect(tmp_path / "db") as db:
        table = db.create_table("notes", {"text": "string"})
        with pytest.raises(KeyboardInterrupt):
            table.insert(rows())
        assert closed == [True]
        assert table.count() == 4_000
        table.insert({"text": "works on"})
        assert table.count() == 4_001


def test_closing_while_another_thread_waits(tmp_path: Path) -> None:
    found: list[object] = []
    with connect(tmp_path / "db", fake_embeddings=True) as db:
        table = db.create_table("notes", {"text": "string"})
        started = threading.Event()

        def slow() -> Iterator[dict[str, Any]]:
            yield {"text": "first"}
            started.set()
            time.sleep(0.3)
            yield {"text": "second"}

        def work() -> None:
            try:
                table.insert(slow())
            except Exception as error:
                found.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert started.wait(LIMIT_S)
        db.close()
        thread.join(LIMIT_S)
        assert not thread.is_alive()
        with pytest.raises(Unsupported, match="is closed"):
            table.count()
    with connect(tmp_path / "db", fake_embeddings=True) as db:
        assert db.table("notes").count() in (0, 2)
        assert found == [] if db.table("notes").count() else len(found) == 1
