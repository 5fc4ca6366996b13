"""docs/add-a-backend.md is true: its files, written and installed as it says, are a backend that works."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.test_docs import PROGRAM, ROOT, blocks

PAGE = ROOT / "docs" / "add-a-backend.md"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory on the path with the page's files in it, and what an installer leaves beside them."""
    site = tmp_path_factory.mktemp("site")
    for block in [*blocks(PAGE, "python"), *blocks(PAGE, "toml")]:
        head, _, text = block.partition("\n")
        path = site / head.removeprefix("# ")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    project = tomllib.loads((site / "pyproject.toml").read_text())["project"]
    # Fewer examples than the adapters of ours get.
    (site / "conftest.py").write_text(
        "from hypothesis import settings\n"
        "settings.register_profile('few', max_examples=15, deadline=None)\n"
        "settings.load_profile('few')\n"
    )
    facts = site / f"{project['name']}-{project['version']}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in found.items())
        for group, found in project["entry-points"].items()
    ]
    (facts / "entry_points.txt").write_text("".join(points))
    return site


def run(site: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    return subprocess.run(
        command,
        cwd=site,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_there_are_four_steps() -> None:
    assert re.findall(r"^## (\d)\.", PAGE.read_text(encoding="utf-8"), re.MULTILINE) == ["1", "2", "3", "4"]


def test_the_suite_passes(site: Path) -> None:
    options = ("-q", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider", "--rootdir", str(site))
    done = run(site, sys.executable, "-m", "pytest", *options, "tests")
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 100


def test_its_url_opens_it_everywhere(site: Path) -> None:
    done = run(site, sys.executable, "use.py")
    assert (done.returncode, done.stdout.split()[0]) == (0, "Dune"), done.stderr
    [command] = [line for block in blocks(PAGE, "sh") for line in block.splitlines()]
    shown = run(site, PROGRAM, *shlex.split(command)[1:])
    assert shown.returncode == 0, shown.stderr


def test_a_scheme_nobody_brings_names_those_there_are(site: Path) -> None:
    refused = run(site, PROGRAM, "tables", "--db", "shelv:x")
    assert refused.returncode != 0
    assert "no backend 'shelv'" in refused.stderr
    assert "shelf:" in refused.stderr


def test_a_package_that_cannot_be_loaded_is_named(site: Path) -> None:
    facts = site / "torn-2.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: torn\nVersion: 2\n")
    (facts / "entry_points.txt").write_text("[vectable.backends]\ntorn = shelf.not_there:open\n")
    refused = run(site, PROGRAM, "tables", "--db", "torn://user:secret@host/x")
    assert refused.returncode != 0
    assert "package torn cannot be loaded" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "secret" not in refused.stderr
