"""The demo's rows: what is read from the standard library, without running it, and how it is judged."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vectable.cli.demo import corpus
from vectable.cli.demo.documentation import MAX_TEACHES, quality, teach
from vectable.cli.demo.sources import read_module

BRANCH = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    found = corpus.rows()
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row for row in found}


def test_there_are_about_ten_thousand_with_every_column_filled(rows: dict[str, dict[str, Any]]) -> None:
    assert 8_500 <= len(rows) <= 11_500
    for row in rows.values():
        assert row.keys() == {"id", *corpus.COLUMNS}
        assert all(row[name] for name in ("title", "teaches", "module", "kind"))
        assert 0 <= row["quality_score"] <= 10
        assert len(row["teaches"]) <= MAX_TEACHES
        assert row["repo_url"].startswith(f"https://github.com/python/cpython/blob/{BRANCH}/")
        row["teaches"].encode("utf-8")
    assert {row["kind"] for row in rows.values()} == {"module", "class", "function", "method"}
    assert {row["language"] for row in rows.values()} == {"Python", "C"}
    assert {row["quality_score"] for row in rows.values()} == set(range(11))


def test_names_lead_to_their_source(rows: dict[str, dict[str, Any]]) -> None:
    import json.decoder

    dumps = rows["json.dumps"]
    line = int(re.fullmatch(r".*/Lib/json/__init__\.py#L(\d+)", dumps["repo_url"])[1])  # type: ignore[index]
    source = Path(json.__file__).read_text("utf-8").splitlines()
    assert source[line - 1].startswith("def dumps(")
    assert (dumps["title"], dumps["kind"], dumps["module"]) == ("json.dumps", "function", "json")
    assert dumps["teaches"].startswith("Serialize ``obj`` to a JSON formatted ``str``.")
    assert rows["json.decoder.JSONDecoder.decode"]["kind"] == "method"
    assert rows["json.decoder"]["kind"] == "module"


def test_what_is_written_in_c_is_there_too(rows: dict[str, dict[str, Any]]) -> None:
    split = rows["builtins.str.split"]
    assert (split["title"], split["kind"], split["language"]) == ("str.split", "method", "C")
    assert split["repo_url"].endswith("/Objects/unicodeobject.c")
    assert rows["math.isclose"]["repo_url"].endswith("/Modules/mathmodule.c")
    assert rows["builtins.ValueError"]["kind"] == "class"
    assert rows["collections.deque.rotate"]["language"] == "C"


def test_what_is_not_public_or_no_library_is_left_out(rows: dict[str, dict[str, Any]]) -> None:
    for name in rows:
        parts = name.split(".")
        assert not any(part.startswith("_") for part in parts), name
        assert parts[0] not in {"test", "idlelib", "antigravity", "this", "turtledemo", "pip"}, name


def test_rows_are_the_same_every_time_and_a_sample_is_a_part(rows: dict[str, dict[str, Any]]) -> None:
    assert corpus.rows() == list(rows.values())
    sample = corpus.rows(50)
    assert len(sample) == 50
    assert all(rows[row["id"]] == row for row in sample)
    assert len({row["module"] for row in sample}) > 20


def test_reading_has_no_effects() -> None:
    code = """
import sys
from vectable.cli.demo import corpus
corpus.rows()
assert not {"antigravity", "this", "tkinter", "turtle", "readline", "idlelib"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


SOURCE = '''
"""A module."""
import sys

# Old style:
# says it in a comment.
def commented(a, b=2, *, c): ...

class Thing:
    """A thing."""
    def __init__(self, size, /, colour="red"): ...
    def paint(self, colour): "Paint it."
    @property
    def area(self): "Its area."
    @staticmethod
    def make(size): ...
    def _hidden(self): ...
    class Inner:
        """Inside."""

if sys.platform == "win32":
    def only_here(): "Windows."
else:
    def only_here(): "Elsewhere."

def outer():
    """Has a function inside, which nobody can call."""
    def inner(): ...
'''


def test_definitions_are_read_from_source(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(SOURCE, "utf-8")
    found = {e.name: e for e in read_module(tmp_path / "m.py", "m", "Lib/m.py")}
    assert {n: e.kind for n, e in found.items()} == {
        "m": "module",
        "m.commented": "function",
        "m.Thing": "class",
        "m.Thing.paint": "method",
        "m.Thing.area": "method",
        "m.Thing.make": "method",
        "m.Thing.Inner": "class",
        "m.only_here": "function",
        "m.outer": "function",
    }
    assert found["m.commented"].text == "Old style:\nsays it in a comment."
    assert found["m.commented"].signature == "(a, b=2, *, c)"
    assert found["m.commented"].parameters == ("a", "b", "c")
    assert found["m.Thing"].parameters == ("size", "colour")
    assert found["m.Thing.paint"].signature == "(colour)"
    assert found["m.Thing.area"].signature == ""
    assert found["m.Thing.make"].parameters == ("size",)
    assert found["m.Thing.make"].text == ""


@pytest.mark.parametrize("content", [b"def broken(:\n", b"\xff\xfe\x00", b"x = '\x00'"])
def test_a_file_that_cannot_be_parsed_is_one_module_less(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.py").write_bytes(content)
    assert list(read_module(tmp_path / "m.py", "m", "Lib/m.py")) == []


def test_a_python_without_sources_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from vectable.errors import Unsupported

    monkeypatch.setattr(corpus, "_library", lambda: tmp_path)
    with pytest.raises(Unsupported, match="without the sources") as caught:
        corpus.rows()
    assert "python.org" in str(caught.value.hint)


WORDS = "word " * 39


@pytest.mark.parametrize(
    ("text", "parameters", "score"),
    [
        ("", ["a"], 0),
        ("Add.", [], 0),
        ("Add two numbers.", [], 1),
        ("Add two numbers and nothing else.", [], 2),
        ("Add a to b, and give back the sum.", ["a", "b"], 4),
        ("Add a to something.", ["a", "b"], 2),
        ("Add a to something", ["a", "b"], 1),
        ("Returns the sum.", [], 2),
        ("Add:\n>>> add(1, 2)\n3", ["a"], 3),
        (f"Say {WORDS}", [], 3),
        (f"Say so.\n{WORDS * 3}\nReturns x, y.\n>>> say(x, y)", ["x", "y"], 9),
        (f"Say it so.\n{WORDS * 3}\nReturns x, y.\n>>> say(x, y)", ["x", "y"], 10),
    ],
)
def test_quality_follows_the_stated_rule(text: str, parameters: list[str], score: int) -> None:
    assert quality(text, parameters) == score


def test_documentation_is_cut_at_sentences() -> None:
    assert teach("One line.\n\n=====\n\n  Two   lines.\n") == "One line.\nTwo lines."
    assert teach("First sentence. Second one, longer. Third", 36) == "First sentence. Second one, longer."
    assert teach("a b c d e f g h", 8) == "a b c…"
    assert teach("x" * 600) == "x" * 600
