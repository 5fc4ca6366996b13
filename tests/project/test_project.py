"""The rules of this repository that no linter knows."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CODE = [
    path
    for folder in ("src", "tests", "benchmarks", "docs", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
    # benchmarks/ keeps environments of its own in directories that git ignores.
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
]
MAX_LINES = 400
VAGUE_NAMES = {"util", "utils", "helper", "helpers", "common", "base", "manager", "service", "misc"}


def project_files() -> list[Path]:
    """Every file that belongs to the project: what git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("this tree is not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_source_file_outgrows_a_reader() -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text("utf-8").splitlines()) for p in CODE}
    assert len(lengths) > 20
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    package = ROOT / "src" / "vectable"
    vague = [
        str(path.relative_to(ROOT))
        for path in package.rglob("*.py")
        for part in path.relative_to(package).with_suffix("").parts
        if VAGUE_NAMES & set(part.lower().split("_"))
    ]
    assert vague == []


def test_every_folder_of_the_package_is_a_package() -> None:
    package = ROOT / "src" / "vectable"
    folders = {path.parent for path in package.rglob("*.py")}
    assert [
        str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()
    ] == []


def test_types_are_shipped() -> None:
    assert (ROOT / "src" / "vectable" / "py.typed").exists()


# Spelt in parts, so that this file does not trip over itself.
FOREIGN = {
    "the host of a package registry": re.compile(
        "|".join(
            re.escape(".".join(host))
            for host in (
                ("pypi", "org"),
                ("pythonhosted", "org"),
                ("registry", "npmjs", "org"),
                ("registry", "yarnpkg", "com"),
                ("crates", "io"),
                ("proxy", "golang", "org"),
                ("repo1", "maven", "org"),
                ("repo", "maven", "apache", "org"),
                ("deb", "debian", "org"),
            )
        )
    ),
    "a path of somebody's machine": re.compile(r"(?<![\w.})])/(?:root|work|home/\w+|Users/\w+)/"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_no_file_holds(what: str) -> None:
    found = []
    files = project_files()
    for path in files:
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # not text: nobody wrote a path into it
        for number, line in enumerate(text.splitlines(), 1):
            if FOREIGN[what].search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert len(files) > 20
    assert found == []


def test_the_patterns_find_what_they_look_for() -> None:
    host, machine = FOREIGN.values()
    assert host.search("see https://pypi" + ".org/simple")
    assert machine.search("open('/ro" + "ot/x')") and machine.search("cd /wo" + "rk/main")
    assert not machine.search("src/work/main") and not machine.search("/workers/")


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings, "CHANGELOG.md has no section"
    assert headings[0].split()[0] in {PROJECT["version"], "Unreleased"}
    assert any(heading.split()[0] == PROJECT["version"] for heading in headings)


def test_the_installed_version_is_this_one() -> None:
    assert version("vectable") == PROJECT["version"]


def test_the_license_is_the_whole_apache_2_text() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert text.split()[:6] == ["Apache", "License", "Version", "2.0,", "January", "2004"]
    assert re.findall(r"^ {3}(\d)\. [A-Z]", text, re.MULTILINE) == list("123456789")
    assert "END OF TERMS AND CONDITIONS" in text
    assert "[yyyy]" not in text


PROBE = """
import os
def test_probe():
    assert not [name for name in os.environ if name.startswith("VECTABLE_") or name.startswith("APP_USE_")]
"""


def test_settings_of_the_person_stay_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text("utf-8"), "utf-8")
    (tmp_path / "test_probe.py").write_text(PROBE, "utf-8")
    for name in ("VECTABLE_FAKE_EMBEDDINGS", "APP_USE_FAKE_EMBEDDINGS", "VECTABLE_DB"):
        monkeypatch.setenv(name, "1")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    assert "1 passed" in run.stdout
