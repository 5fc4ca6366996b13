"""The documentation is true: its snippets run, its file map is fresh, its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


PROGRAM = str(Path(sys.executable).with_name("vectable"))


def blocks(page: Path, language: str) -> list[str]:
    """The page's code blocks in that language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def run(script: str, directory: Path) -> str:
    environment = {**os.environ, "VECTABLE_FAKE_EMBEDDINGS": "0", "PYTHONWARNINGS": "error::UserWarning"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_guide_runs_in_order(tmp_path: Path) -> None:
    shown = run("\n".join(blocks(ROOT / "docs" / "python.md", "python")), tmp_path)
    assert "path" in shown
    assert "hnsw" in shown


def test_the_readme_example_finds_what_it_shows(tmp_path: Path) -> None:
    [snippet] = blocks(ROOT / "README.md", "python")
    assert len([line for line in snippet.splitlines() if line.strip()]) == 5, "a five-line example"
    shown = run(snippet, tmp_path)
    assert "State in React with hooks" in shown
    assert "Cooking pasta" not in shown


def test_the_readme_serves_and_answers_curl(tmp_path: Path) -> None:
    run(blocks(ROOT / "README.md", "python")[0], tmp_path)
    serve, search, embed = (b for b in blocks(ROOT / "README.md", "sh") if "serve" in b or "curl" in b)
    program = [PROGRAM, *shlex.split(serve, comments=True)[1:], "--port", "0", "--json"]
    server = subprocess.Popen(program, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        said = ""
        while not said.endswith("}\n"):
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line, "the server did not start"
            said += line
        port = urlsplit(json.loads(said)["url"]).port
        found = _answer_to(search, port)
        assert [hit["data"]["title"] for hit in found["results"]] == ["State in React with hooks"]
        assert found["results"][0]["score"] > 0.3
        [vector] = _answer_to(embed, port)["embeddings"]
        assert len(vector) == 384
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(100) in (0, -signal.SIGTERM)


def _answer_to(curl: str, port: int | None) -> dict[str, Any]:
    """What the server answers to a command line of the README."""
    command = shlex.split(curl.replace("\\\n", " ").replace(":3000", f":{port}"))
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def test_every_command_in_the_documentation_exists() -> None:
    used = {
        command
        for page in PAGES
        for block in blocks(page, "sh")
        for command in re.findall(r"^vectable (\w+)", block, re.MULTILINE)
    }
    shown = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True).stdout
    assert used <= set(re.findall(r"^  (\w+)  ", shown, re.MULTILINE))
    assert used, "the pages show commands"


def test_the_file_map_is_fresh() -> None:
    check = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"])
    assert check.returncode == 0, "run: python docs/generate.py"


def test_every_path_named_in_the_architecture_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("## File map")[0]
    package = ROOT / "src" / "vectable"
    named = set(re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?|[a-z_]+\.py)`", text))
    homes = [
        package,
        package / "core",
        package / "engine",
        package / "server",
        package / "engine" / "search",
        ROOT,
    ]
    inner = [package / "engine", package / "core" / "predicate"]
    for name in sorted(named):
        assert any((home / name).exists() for home in [*homes, *inner]), name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
