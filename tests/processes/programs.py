"""Programs as people run them: Python scripts, the command line, and a server, over one database.

Every program can log what the model is asked to embed, and be slowed down in between, so that a kill lands
where a test wants it. Nothing else is in the place of the real thing.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import httpx
import pytest

import vectable
from tests.waiting import LIMIT_S
from vectable.core.vectors import Matrix
from vectable.interfaces import Purpose
from vectable.providers.hashing import HashingProvider

T = TypeVar("T")
SETTINGS: dict[str, Any] = {
    "fake_embeddings": True, "text_model": "hashing/32", "busy_timeout_ms": 60_000
}  # fmt: skip
INSTRUMENTS = """
import asyncio, os, sys
from vectable.providers.hashing import HashingProvider

def instrument():
    embed, log = HashingProvider.embed, os.environ.get("TEST_EMBED_LOG")
    pause, size = float(os.environ.get("TEST_EMBED_PAUSE", 0)), int(os.environ.get("TEST_EMBED_BATCH", 0))

    async def watched(self, items, purpose):
        if log and purpose == "document":
            with open(log, "a") as file:
                file.write("".join(f"{os.getpid()} {item}\\n" for item in items))
        await asyncio.sleep(pause)
        return await embed(self, items, purpose)

    HashingProvider.embed = watched
    if size:
        HashingProvider.max_batch = size

    limit = os.environ.get("TEST_FILE_LIMIT")
    if limit:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))

instrument()
"""
SCRIPT = """
import vectable
db = vectable.connect(sys.argv[1])
"""
COMMAND = "from vectable.cli import main; main()"


@dataclass
class Server:
    """A `vectable serve` that answers."""

    url: str
    client: httpx.Client
    process: subprocess.Popen[str]

    def post(self, path: str, body: Any, status: int = 200) -> Any:
        """The answer to a JSON body, which must have that status."""
        return self._checked(self.client.post(f"/api/v1/tables{path}", json=body), status)

    def get(self, path: str, status: int = 200) -> Any:
        """The answer to a GET, which must have that status."""
        return self._checked(self.client.get(f"/api/v1{path}"), status)

    @staticmethod
    def _checked(answer: httpx.Response, status: int) -> Any:
        assert answer.status_code == status, answer.text
        return answer.json()

    def rows(self, table: str, **query: Any) -> list[dict[str, Any]]:
        """The rows a query finds."""
        found: list[dict[str, Any]] = self.post(f"/{table}/query", {"limit": 10_000, **query})["rows"]
        return found


class Programs:
    """Starts programs over the database in `directory / "db"`, or at `url`; ends those a test leaves
    behind."""

    def __init__(self, directory: Path, url: str | None = None) -> None:
        self.directory = directory
        self.db = directory / "db"
        self.url = url or str(self.db)
        self.embed_log = directory / "embedded"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("VECTABLE_", "APP_USE_"))}
        self.environment = {
            **kept,
            **{f"VECTABLE_{name.upper()}": str(value) for name, value in SETTINGS.items()},
            "TEST_EMBED_LOG": str(self.embed_log),
            "COLUMNS": "200",
        }
        self._started: list[subprocess.Popen[str]] = []

    def start(self, code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        """A process of Python. `env` adds to its environment."""
        environment = {**self.environment, **options.pop("env", {})}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        program = subprocess.Popen(
            [sys.executable, "-c", INSTRUMENTS + code, *map(str, arguments)],
            cwd=self.directory,
            env=environment,
            encoding="utf-8",
            **{**pipes, **options},
        )
        self._started.append(program)
        return program

    def script(self, code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        """A script that has the database open as `db`; its arguments are `sys.argv[2:]`."""
        return self.start(SCRIPT + code, self.url, *arguments, **options)

    def run_apart(self, code: str, *arguments: object, **options: Any) -> str:
        """What a script that must succeed prints."""
        return finished(self.script(code, *arguments, **options))

    def run(self, code: str, *arguments: object) -> str:
        """The same in this process, which is one more beside the others, and needs no start. Opens the
        database anew, and closes it."""
        out = io.StringIO()
        argv = ["", self.url, *map(str, arguments)]
        with redirect_stdout(out), self._logged(), vectable.connect(self.url, **SETTINGS) as db:
            names = {"db": db, "vectable": vectable, "os": os, "sys": SimpleNamespace(argv=argv)}
            exec(compile(code, "script", "exec"), names)  # the tests' own
        return out.getvalue()

    @contextmanager
    def _logged(self) -> Iterator[None]:
        embed, log = HashingProvider.embed, self.embed_log

        async def logged(model: HashingProvider, items: Sequence[Any], purpose: Purpose) -> Matrix:
            if purpose == "document":
                with log.open("a") as file:
                    file.write("".join(f"{os.getpid()} {item}\n" for item in items))
            return await embed(model, items, purpose)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HashingProvider, "embed", logged)
            yield

    def command(self, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        """A `vectable` command line."""
        return self.start(COMMAND, *arguments, "--db", self.url, **options)

    def vectable(self, *arguments: object, **options: Any) -> str:
        """What a command that must succeed prints."""
        return finished(self.command(*arguments, **options))

    @contextmanager
    def serve(self, *arguments: object, **options: Any) -> Iterator[Server]:
        """A server on a free port, stopped in the end by SIGTERM: it must then end well, unless killed."""
        process = self.command("serve", "--port", 0, *arguments, **options)
        with httpx.Client(base_url=address_of(process), timeout=LIMIT_S) as client:
            yield Server(str(client.base_url), client, process)
        if process.poll() is None:
            process.terminate()
        _, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode in (0, -signal.SIGKILL), err
        assert "Traceback" not in err, err

    def embedded(self) -> Counter[str]:
        """How often each document was given to the model, by all programs so far."""
        if not self.embed_log.exists():
            return Counter()
        return Counter(line.partition(" ")[2] for line in self.embed_log.read_text().splitlines())

    def end(self) -> None:
        """Ends what still runs."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


def address_of(server: subprocess.Popen[str]) -> str:
    """Where a server says it listens."""
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line:
        _, err = server.communicate(timeout=LIMIT_S)
        raise AssertionError(f"the server ended with {server.returncode}: {err}")
    return line.rpartition(" at ")[2].strip()


def finished(process: subprocess.Popen[str]) -> str:
    """Standard output of a program that must succeed."""
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, f"{process.returncode}\n{out}\n{err}"
    assert "Traceback" not in err, err
    return out


def kill(process: subprocess.Popen[str]) -> tuple[str, str]:
    """kill -9; what the program had written."""
    process.send_signal(signal.SIGKILL)
    return process.communicate(timeout=LIMIT_S)


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line a program prints; fails when it ends instead."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        _, err = process.communicate(timeout=LIMIT_S)
        raise AssertionError(f"the program ended with {process.returncode}: {err}")
    return line.rstrip("\n")


def lines(file: Path) -> list[str]:
    """The whole lines of a log that may be cut off in the middle of one, or not be there yet."""
    return file.read_text().split("\n")[:-1] if file.exists() else []
