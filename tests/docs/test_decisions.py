"""The decision records keep their form, so that they can be found and read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "decisions"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
PAGE = 60  # lines


def test_numbers_only_grow() -> None:
    numbers = [int(path.name[:4]) for path in RECORDS]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_a_record_is_one_page_of_three_parts(record: Path) -> None:
    text = record.read_text("utf-8")
    assert text.startswith(f"# {record.name[:4]} ")
    assert re.search(r"^Status: (accepted|replaced by \d{4})$", text, re.MULTILINE)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(text.splitlines()) <= PAGE


def test_the_list_names_every_record_by_its_title() -> None:
    listed = re.findall(r"^\| \[(.+)\]\((.+)\) \|", (FOLDER / "README.md").read_text("utf-8"), re.MULTILINE)
    titles = [(path.read_text("utf-8").splitlines()[0].removeprefix("# "), path.name) for path in RECORDS]
    assert listed == titles
