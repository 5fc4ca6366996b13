"""docs/models.md is true: its snippets run, and the models it names are known."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.docs.test_docs import PROGRAM, ROOT, blocks, run
from vectable import providers

PAGE = ROOT / "docs" / "models.md"


def test_the_guide_runs_in_order(tmp_path: Path) -> None:
    shown = run("\n".join(blocks(PAGE, "python")), tmp_path).splitlines()
    assert any(line.startswith("sentence-transformers/all-MiniLM-L6-v2 384 256") for line in shown)
    assert "[0, 1]" in shown
    assert shown[-2].endswith("red-ellipse.png")
    assert shown[-2].startswith("1.00")


def test_its_commands_run(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(PROGRAM).parent), os.environ["PATH"]])
    for block in blocks(PAGE, "sh"):
        done = subprocess.run(
            ["sh", "-euc", block],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path},
        )
        assert done.returncode == 0, done.stderr
        assert "model" in done.stdout


def test_the_models_it_recommends_are_known() -> None:
    table = PAGE.read_text("utf-8").split("## Which one")[1].split("Their licences")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("|") and "`" in line]
    named = {name: " ".join(row) for row in rows for name in re.findall(r"`([^`]+)`", row[2])}
    assert len(named) >= 8
    for name, row in named.items():
        card = providers.resolve(name, fake=False)
        assert f"{card.dimensions:,} dim" in row or card.type == "image" or name.startswith("hashing"), row
