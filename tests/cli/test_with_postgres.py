"""serve --with-postgres: a server and its database, stopped together, killed, and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.conftest import CommandLine
from vectable.drivers.postgres import server

ROWS = [
    {"id": "1", "title": "A heist in orbit"},
    {"id": "2", "title": "Bread at home"},
    {"id": "3", "title": "Orbit, a history"},
]


class Served:
    """`vectable serve` on a free port, in a session of its own, and a client of it."""

    def __init__(self, process: subprocess.Popen[str], said: dict[str, Any]) -> None:
        self.process = process
        self.said = said
        self.client = httpx.Client(base_url=f"{said['url']}/api/v1", timeout=100)

    def best(self, query: str) -> list[str]:
        body = {"query": query, "column": "meaning", "limit": 2}
        answer = self.client.post("/tables/books/search/similarity", json=body)
        assert answer.status_code == 200, answer.text
        return [hit["data"]["id"] for hit in answer.json()["results"]]


@contextmanager
def served(command: CommandLine) -> Iterator[Served]:
    arguments = ("serve", "--with-postgres", "./pg", "--port", "0", "--json")
    with command.start(*arguments, start_new_session=True) as process:
        try:
            text = ""
            for line in process.stdout or ():
                text += line
                if line.startswith("}"):
                    break
            assert text, process.stderr and process.stderr.read()
            yield Served(process, json.loads(text))
        finally:
            process.kill()


def server_pid(directory: Path) -> int | None:
    """Of the PostgreSQL server that runs there."""
    try:
        pid = int((directory / "pg" / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pid


@pytest.fixture
def command() -> Iterator[CommandLine]:
    # Not in the tests' own directory: PostgreSQL does not run as root, and others may not look in there.
    with tempfile.TemporaryDirectory(prefix="vectable-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield CommandLine(directory)
        left = server_pid(directory)
        if left is not None:
            os.kill(left, signal.SIGQUIT)


def test_it_is_started_stopped_killed_and_started_again(command: CommandLine) -> None:
    with served(command) as first:
        assert first.said["db"] == "PostgreSQL in pg"
        made = first.client.post("/tables", json={"name": "books", "columns": {"title": "string"}})
        assert made.status_code == 201, made.text
        embedded = {"name": "meaning", "source_column": "title"}
        made = first.client.post("/tables/books/columns/computed/embedding", json=embedded)
        assert made.status_code == 201, made.text
        put = first.client.post("/tables/books/rows", json={"rows": ROWS})
        assert put.status_code in (200, 201), put.text
        best = first.best("orbit")
        first.process.send_signal(signal.SIGTERM)
        _, err = first.process.communicate(timeout=100)
        assert (first.process.returncode, err) == (0, "")
        assert server_pid(command.directory) is None
    with served(command) as second:
        assert second.best("orbit") == best
        second.client.post("/tables/books/rows", json={"rows": [{"id": "4", "title": "orbit"}]})
        second.process.kill()
        second.process.wait(100)
    with served(command) as third:
        assert third.best("orbit")[0] == "4"
        left = server_pid(command.directory)
        assert left is not None
        os.kill(left, signal.SIGKILL)  # the database server itself dies, and comes back with the next start
        third.process.kill()
        third.process.wait(100)
    with served(command) as fourth:
        assert fourth.best("orbit")[0] == "4"


def test_it_waits_for_the_last_of_a_server_that_was_killed(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which go on writing to the log while they end."""
    real, scripts = server.programs(), command.directory / "programs"
    scripts.mkdir(mode=0o755)
    farewell = "".join(f"echo process {i} ends >&2\n" for i in range(9))
    refusal = f"echo 'a shared memory block is still in use' >&2\n{farewell}exit 1"
    first = f"if mkdir {command.directory}/pg/refused 2>/dev/null; then {refusal}; fi\n"
    for name in ("initdb", "postgres"):
        before = first if name == "postgres" else ""
        (scripts / name).write_text(f'#!/bin/sh\n{before}exec "{real}/{name}" "$@"\n')
        (scripts / name).chmod(0o755)
    monkeypatch.setattr(server, "programs", lambda version: scripts)
    started = server.PostgresServer(command.directory / "pg", fsync=False)
    started.start()
    assert (command.directory / "pg" / "refused").is_dir()
    assert server_pid(command.directory) == started.pid
    started.stop()


def test_beside_another_database_it_is_refused(command: CommandLine) -> None:
    done = command.inside("serve", "--with-postgres", "./pg", "--db", "./here")
    assert done.returncode == 2
    assert "in place of --db" in done.stderr


def test_a_directory_that_cannot_be_made_is_said_to_be(command: CommandLine) -> None:
    done = command.inside("serve", "--with-postgres", "./no/such/place")
    assert done.returncode == 1
    assert "There is no directory" in done.stderr
