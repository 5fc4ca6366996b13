"""Environments for extras too large for everybody's own: made once beside the sources, then reused."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_UNREACHABLE = (
    "NewConnectionError",
    "ConnectTimeout",
    "ReadTimeout",
    "Temporary failure",
    "ProxyError",
    "MaxRetry",
)


def environment(name: str, requirements: Sequence[str], pins: Sequence[str], needs_gb: int) -> Path:
    """The interpreter of .venv-NAME, which has this environment's packages and `requirements`, at the
    versions of constraints.txt; made anew when the lines that begin with one of `pins` change. Skips the test
    where the disk is too small or the registry cannot be reached."""
    directory, constraints = ROOT / f".venv-{name}", ROOT / "constraints.txt"
    python = directory / "bin" / "python"
    pinned = [line for line in constraints.read_text().splitlines() if line.startswith(tuple(pins))]
    wanted = f"{sys.version}\n{sys.prefix}\n{sorted(requirements)}\n{pinned}"
    digest, complete = hashlib.sha256(wanted.encode()).hexdigest(), directory / "complete"
    if complete.is_file() and complete.read_text() == digest:
        return python
    free = shutil.disk_usage(ROOT).free >> 30
    if free < needs_gb:
        pytest.skip(f"the environment takes {needs_gb} GB, and {free} are free")
    shutil.rmtree(directory, ignore_errors=True)
    venv.create(directory)
    site = next((directory / "lib").glob("python*/site-packages"))
    (site / "parent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    # Most of so many files nobody imports: those that are imported are compiled then.
    options = ["--no-compile", "--constraint", str(constraints)]
    done = subprocess.run([*pip, *options, *requirements], capture_output=True, text=True, check=False)
    if done.returncode and any(sign in done.stderr for sign in _UNREACHABLE):
        pytest.skip(f"the package registry cannot be reached: {done.stderr.strip().splitlines()[-1][:200]}")
    assert done.returncode == 0, done.stderr[-2_000:]
    complete.write_text(digest)
    return python


def run_inside(python: Path, tests: Path) -> str:
    """What pytest says of a file of tests under another interpreter; fails with it where they fail."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    done = subprocess.run(
        [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(tests)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6_000:]
    return done.stdout
