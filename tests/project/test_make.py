"""The commands a newcomer types."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = {"demo", "test", "lint", "fix", "bench", "soak", "serve", "docs", "openapi", "clean"}

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str, cwd: Path = ROOT, path: str | None = None) -> subprocess.CompletedProcess[str]:
    # These tests run under `make test`, whose variables would reach the make they start.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    environment["PATH"] = path or os.environ["PATH"]
    tool = shutil.which("make")
    assert tool
    return subprocess.run([tool, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [[], ["help"]], ids=["no target", "help"])
def test_help_has_a_line_for_each_target(arguments: list[str]) -> None:
    lines = make(*arguments).stdout.splitlines()
    described = dict(re.fullmatch(r"  make (\w+) +(\S.+)", line).groups() for line in lines)  # type: ignore[union-attr]
    assert set(described) == TARGETS | {"help"}


def test_every_target_is_listed_as_phony() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    declared = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert declared and set(declared[1].split()) == TARGETS | {"help"}


def test_openapi_writes_both_documents_made_from_the_server(tmp_path: Path) -> None:
    folder = copy_of_the_build(tmp_path)
    (folder / "docs").mkdir()
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for stamp in (".created", ".installed-dev"):
        (folder / ".venv" / stamp).touch()
    run = make("openapi", cwd=folder)
    assert run.returncode == 0, run.stderr
    for name in ("openapi.json", "errors.md"):
        assert (folder / "docs" / name).stat().st_size > 1_000
        assert f"docs/{name}" in run.stdout


def copy_of_the_build(folder: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_without_a_python_it_says_what_is_needed(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "awk", "touch"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    run = make("demo", cwd=copy_of_the_build(tmp_path), path=str(tools))
    assert run.returncode != 0
    assert "needs Python 3.11 or newer" in run.stderr
    assert not (tmp_path / ".venv").exists()


def test_an_old_python_is_passed_over(tmp_path: Path) -> None:
    old = tmp_path / "old python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    run = make("demo", f"PYTHON={old}", cwd=copy_of_the_build(tmp_path))
    assert run.returncode != 0
    assert f"Tried: {old}" in run.stderr


def test_ci_starts_from_nothing_and_runs_lint_and_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    steps = [
        line for line in script.read_text("utf-8").splitlines() if line.startswith(("rm", "make", "set"))
    ]
    assert steps == ["set -euo pipefail", "rm -rf .venv", "make lint", "make test"]
