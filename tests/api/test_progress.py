"""Progress: shown to people, never in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import textwrap
from types import SimpleNamespace
from typing import Any

import pytest

from vectable.handles import progress as module
from vectable.handles.progress import Line, describe, eta, progress

SLOW_WORK = """
    import time
    from vectable.handles import progress
    progress.PATIENCE = 0.0
    with progress.progress("insert into [t]") as update:
        for done in range(0, 1001, 100):
            update(done, 1000)
            time.sleep(0.02)
    print("done")
"""


def run_in_terminal(script: str) -> str:
    """What a person sees of a script run in a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 65536):
            seen += chunk
    except OSError:
        pass  # how Linux says that the other end is closed
    os.close(ours)
    assert process.wait(100) == 0
    return seen.decode()


def test_a_pipe_gets_nothing_but_the_output() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SLOW_WORK)], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_terminal_shows_a_bar_with_rate_and_time_left() -> None:
    seen = run_in_terminal(SLOW_WORK)
    assert "insert into [t]" in seen
    assert "of 1,000 rows" in seen
    assert "rows/s" in seen
    assert " left" in seen
    assert seen.rstrip().endswith("done")


def test_quick_work_shows_nothing() -> None:
    script = SLOW_WORK.replace("progress.PATIENCE = 0.0", "progress.PATIENCE = 60.0")
    assert run_in_terminal(script).strip() == "done"


class ZMQInteractiveShell:
    """What a notebook's shell is called."""


def test_a_notebook_gets_one_line_that_is_gone_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=ZMQInteractiveShell))
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    monkeypatch.setattr(module, "_EVERY", 600.0)
    with progress("embed notes", "cells") as update:
        update(10, 100)
        update(20, 100)
    shown = capsys.readouterr().out
    assert "embed notes: 10 of 100 cells" in shown
    assert "20 of 100" not in shown
    assert shown.endswith("\r")
    assert "\n" not in shown


def test_a_line_covers_what_was_there_before(capsys: pytest.CaptureFixture[str]) -> None:
    line = Line("x", "rows", 0.0)
    line.show(1_000_000, 2_000_000)
    line.close()
    first, last = [part for part in capsys.readouterr().out.split("\r") if part]
    assert len(last) == len(first)
    assert last.strip() == ""


@pytest.mark.parametrize(
    ("done", "total", "per_second", "expected"),
    [
        (0, 100, 0, "?"),
        (50, None, 5, "?"),
        (50, 100, 1, "0:50"),
        (0, 7300, 1, "2:01:40"),
        (100, 100, 5, "0:00"),
    ],
)
def test_the_time_left(done: int, total: Any, per_second: float, expected: str) -> None:
    assert eta(done, total, per_second) == expected


def test_words() -> None:
    assert describe(1_200, 10_000, "rows", 10) == "1,200 of 10,000 rows, 120 rows/s, 1:13 left"
    assert describe(1_200, None, "rows", 10) == "1,200 rows, 120 rows/s"
