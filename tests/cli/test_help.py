"""Help teaches, and costs nothing: no command's help loads what only running it needs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import CommandLine
from vectable.cli.commands import _COMMANDS as COMMANDS

HEAVY = (
    "asyncio", "faiss", "fastapi", "numpy", "onnxruntime", "orjson", "pyarrow", "pydantic", "rich", "sqlglot",
    "sqlite3", "tokenizers", "uvicorn",
)  # fmt: skip


def _loaded_by(program: str, *arguments: str, **env: str) -> set[str]:
    """Which heavy modules are loaded once `program` ran."""
    code = f"{program}\nprint('LOADED', *[m for m in {HEAVY!r} if m in sys.modules])"
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, **env}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_no_help_loads_anything_heavy() -> None:
    program = f"""
import sys
from vectable.cli.entry import run
for arguments in [["--help"], ["--version"], *[[name, "--help"] for name in {list(COMMANDS)!r}]]:
    assert run(arguments) == 0, arguments
"""
    assert _loaded_by(program) == set()


def test_a_search_loads_neither_server_nor_arrow(books: CommandLine) -> None:
    program = """
import sys
from vectable.cli.entry import run
assert run(sys.argv[1:]) == 0
"""
    fake = {"VECTABLE_FAKE_EMBEDDINGS": "1"}
    loaded = _loaded_by(program, "search", "books", "worms", "--db", str(books.database), **fake)
    assert "numpy" in loaded
    assert not loaded & {"fastapi", "uvicorn", "pyarrow", "sqlglot"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    from click.testing import CliRunner

    from vectable.cli.commands import vectable

    done = CliRunner().invoke(vectable, [command, "--help"])
    assert done.exit_code == 0
    assert f"Usage: vectable {command} " in done.output
    assert "Examples:" in done.output
    assert f"\n    vectable {command}" in done.output
    assert "--json" in done.output


def test_the_program_lists_every_command_and_the_exit_codes(cli: CommandLine) -> None:
    for arguments in (["--help"], []):
        out = cli.ok(*arguments)
        assert all(f"\n  {name} " in out for name in COMMANDS)
        assert "Exit codes: 0 done, 1 failed, 2 not understood, 130 interrupted." in out
    assert list(cli.directory.iterdir()) == []


def test_version_is_the_packages(cli: CommandLine) -> None:
    from vectable import __version__

    assert cli.ok("--version") == f"vectable {__version__}\n"
