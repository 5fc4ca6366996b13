"""The examples run as they are, offline, and show what they say they do."""

from __future__ import annotations

import ast
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.providers.clip_forms import write_clip

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "python"
PROGRAMS = sorted(
    file for file in FOLDER.glob("*.py") if 'if __name__ == "__main__":' in file.read_text("utf-8")
)


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Derived files of models, made by the first example that needs them."""
    return tmp_path_factory.mktemp("caches")


def run(name: str, directory: Path, caches: Path, *arguments: str) -> str:
    """What it prints, started in a directory of its own, with the network out of reach."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        environment = {
            **os.environ,
            "HTTP_PROXY": proxy,
            "HTTPS_PROXY": proxy,
            "XDG_CACHE_HOME": str(caches),
            "MPLCONFIGDIR": str(caches / "matplotlib"),
            "PYTHONWARNINGS": "error::UserWarning",
        }
        done = subprocess.run(
            [sys.executable, str(FOLDER / name), *arguments],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=110,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


def hits(shown: str, heading: str) -> list[str]:
    """The lines below a heading, without their scores."""
    [block] = [block for block in shown.split("\n\n") if block.strip().startswith(heading)]
    return re.findall(r"^  -?\d\.\d\d  (.+)$", block, re.MULTILINE)


def test_text_embeddings(tmp_path: Path, caches: Path) -> None:
    shown = run("text_embeddings.py", tmp_path, caches)
    assert "5 texts, 384 numbers each" in shown
    assert "0.76  A man is eating food.  →  A man is eating a piece of bread." in shown
    assert "cache: 6 vectors, 5 hits, 6 misses" in shown


def test_semantic_search(tmp_path: Path, caches: Path) -> None:
    shown = run("semantic_search.py", tmp_path, caches)
    assert hits(shown, "how do I get uphill")[0].startswith("Climbing without stopping")
    assert hits(shown, "two tasks")[0].startswith("What a race condition is")
    filtered = hits(shown, "riding in bad weather")
    assert filtered[0].startswith("Winter tyres")
    assert all(re.search(r"\([1-5] min, 202[0-9]\)$", hit) for hit in filtered)


def test_document_clustering(tmp_path: Path, caches: Path) -> None:
    shown = run("document_clustering.py", tmp_path, caches, "found.png")
    clusters = re.findall(r"^ *(\d+) documents about (.+)\n.+did not see: (\d+) (\w+)", shown, re.MULTILINE)
    assert sum(int(size) for size, *_ in clusters) == 60
    assert len({topic for *_, topic in clusters}) == len(clusters) >= 4, "each is about something else"
    assert all(words.count(",") == 3 for _, words, *_ in clusters)
    with Image.open(tmp_path / "found.png") as picture:
        assert picture.size == (960, 720)
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 50, "it is not empty"


def test_recommendation(tmp_path: Path, caches: Path) -> None:
    shown = run("recommendation.py", tmp_path, caches)
    alike, diverse = hits(shown, "most like what was read"), hits(shown, "as relevant, less alike")
    assert len(alike) == len(diverse) == 5
    assert alike[0] == diverse[0], "the most relevant one is not given up for diversity"
    assert not [hit for hit in alike + diverse if hit.startswith(("A saddle", "Climbing", "Gears"))]
    topics = [int(n) for n in re.findall(r"topics: (\d)", shown)]
    assert topics[1] > topics[0]


def test_image_search(tmp_path: Path, caches: Path) -> None:
    shown = run("image_search.py", tmp_path, caches)
    assert {hit.split()[0] for hit in hits(shown, "like a new drawing of a forest")} == {"forest"}
    assert {hit.split()[0] for hit in hits(shown, "like a new drawing of a city")} == {"city"}
    assert {hit.split()[0] for hit in hits(shown, "captions that mean")} == {"fruit"}
    assert "pictures that show" not in shown


def test_image_search_by_text_with_a_clip_model(tmp_path: Path, caches: Path) -> None:
    clip = write_clip(tmp_path / "tiny-clip")  # random weights: what it finds means nothing
    shown = run("image_search.py", tmp_path, caches, str(clip))
    assert len(hits(shown, "pictures that show")) == 4


def test_every_example_is_run_here_and_listed() -> None:
    tested = set(re.findall(r'run\("(\w+\.py)"', Path(__file__).read_text("utf-8")))
    listed = set(re.findall(r"\]\(python/(\w+\.py)\)", (ROOT / "examples" / "README.md").read_text("utf-8")))
    assert tested == listed == {file.name for file in PROGRAMS}


@pytest.mark.parametrize("file", PROGRAMS, ids=lambda file: file.stem)
def test_each_says_what_it_shows_and_how_to_run_it(file: Path) -> None:
    said = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    assert f"python examples/python/{file.name}" in said
