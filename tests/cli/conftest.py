"""The command line as people run it: a process of its own, in an empty directory, with hashed embeddings."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from vectable.cli.entry import run

PROGRAM = [sys.executable, "-m", "vectable.cli"]
BOOKS = """\
id,title,blurb,year,price,zip,published,fiction
1,Dune,"A desert planet, spice and worms",1965,9.5,00123,2020-01-01T00:00:00Z,true
2,Emma,"A young woman matches, wrongly",1815,,01234,,true
3,Cosmos,"Stars, planets and how we know",1980,12,00007,2021-05-06T07:08:09+02:00,false
"""


class CommandLine:
    """Runs `vectable` in `directory`; what it wrote and its exit code come back."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.database = directory / "vectable-data"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("VECTABLE_")}
        self.environment = {**kept, "VECTABLE_FAKE_EMBEDDINGS": "1", "COLUMNS": "120"}

    def start(
        self, *arguments: str, program: Sequence[str] = PROGRAM, **options: Any
    ) -> subprocess.Popen[str]:
        environment = {**self.environment, **options.pop("env", {})}
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **options,
        }
        return subprocess.Popen(
            [*program, *arguments], cwd=self.directory, env=environment, encoding="utf-8", **options
        )

    def __call__(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments, env=env) as process:
            out, err = process.communicate(timeout=100)
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def inside(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The same within this process: for failures, of which there are many."""
        out, err = io.StringIO(), io.StringIO()
        fake = mock.patch.dict(os.environ, {"VECTABLE_FAKE_EMBEDDINGS": "1"})
        with contextlib.chdir(self.directory), fake, redirect_stdout(out), redirect_stderr(err):
            code = run(arguments)
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def ok(self, *arguments: str, **env: str) -> str:
        """Standard output of a command that must succeed."""
        done = self(*arguments, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments: str, **env: str) -> Any:
        """What a command that must succeed says with --json: one document, and nothing on standard error."""
        done = self(*arguments, "--json", **env)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A database with the table `books`, embedded; tests of a module share it, and change nothing in it."""
    shared = CommandLine(tmp_path_factory.mktemp("books"))
    (shared.directory / "books.csv").write_text(BOOKS, "utf-8")
    shared.ok("import", "books", "books.csv", "--embed", "blurb")
    return shared
