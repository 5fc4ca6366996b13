"""`vectable demo`: builds, asks, and never does again what is done, however it was ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from vectable import Database, connect
from vectable.cli.demo.ask import QUESTIONS
from vectable.cli.demo.build import COLUMN, TABLE

ROWS = 400


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
def opened(cli: CommandLine) -> Iterator[Database]:
    with connect(cli.database, fake_embeddings=True) as db:
        yield db


def _run(cli: CommandLine, rows: int = ROWS) -> dict[str, object]:
    found: dict[str, object] = cli.json("demo", "--limit-rows", str(rows))
    return found


def test_the_second_run_writes_and_embeds_nothing(cli: CommandLine) -> None:
    first = _run(cli)
    assert (first["rows"], first["written"], first["embedded"]) == (ROWS, ROWS, ROWS)
    with connect(cli.database, fake_embeddings=True) as db:
        table = db.table(TABLE)
        assert table.states(COLUMN)["ready"] == table.count() == ROWS
        jobs = {job.id for job in db.jobs()}
        cached = db.status()["cache"]["persistent"]["size"]
    second = _run(cli)
    assert (second["rows"], second["written"], second["embedded"]) == (ROWS, 0, 0)
    with connect(cli.database, fake_embeddings=True) as db:
        assert {job.id for job in db.jobs()} == jobs
        assert db.status()["cache"]["persistent"]["size"] == cached
    assert second["questions"] and [q["question"] for q in second["questions"]] == [q.text for q in QUESTIONS]  # type: ignore[attr-defined]


def test_what_changed_is_written_again_and_nothing_else(cli: CommandLine) -> None:
    _run(cli)
    with connect(cli.database, fake_embeddings=True) as db:
        table = db.table(TABLE)
        title = table.order_by("title").first()
        assert title is not None
        table.update({"column": "id", "operator": "=", "value": title.id}, {"teaches": "changed by hand"})
        table.delete(table.kind == "module")
        gone = ROWS - table.count()
    assert gone > 0
    found = _run(cli)
    assert found["written"] == gone + (title.kind != "module")
    with connect(cli.database, fake_embeddings=True) as db:
        assert db.table(TABLE).get(title.id).teaches == title.teaches
        assert db.table(TABLE).states(COLUMN)["ready"] == ROWS


def test_killed_at_any_moment_the_next_run_goes_on(cli: CommandLine) -> None:
    for moment in (0.0, 0.1, 0.4):
        with cli.start("demo", "--limit-rows", "3000") as process:
            assert process.stdout is not None
            for line in process.stdout:
                if "Embedding" in line:
                    break
            time.sleep(moment)
            process.kill()
        with connect(cli.database, fake_embeddings=True) as db:
            assert db.table(TABLE).count() == 3_000
    found = _run(cli, 3_000)
    assert found["written"] == 0
    assert found["states"]["ready"] == 3_000  # type: ignore[index]
    assert not any(found["states"][s] for s in ("new", "stale", "error", "empty"))  # type: ignore[index]


def test_it_shows_hits_scores_times_the_rule_and_what_is_next(cli: CommandLine) -> None:
    text = cli.ok("demo", "--limit-rows", str(ROWS))
    assert "quality_score is 0 for what has no documentation" in text
    for question in QUESTIONS:
        assert f"“{question.text}”" in text
        assert question.where is None or f"where {question.where}" in text
    assert text.count("score  title") >= 3
    assert text.count("hits: embedding ") == len(QUESTIONS)
    for step in ("vectable search code_layouts", "vectable serve", "curl http://", "vectable.connect("):
        assert step in text
    assert "hits share words, not meaning" in text


@pytest.mark.parametrize("options", [(), ("--db", "another 'base'")])
def test_what_is_next_works_as_printed_where_the_shell_knows_no_environment(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    cli = CommandLine(tmp_path)
    own = Path(sys.executable).parent
    elsewhere = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if Path(p) != own)
    text = cli.ok("demo", "--limit-rows", "50", *options, PATH=elsewhere)
    steps = text.partition("Try next\n")[2]
    search, describe, *_ = steps.splitlines()
    python = steps[steps.rindex("\n", 0, steps.index(" -c ")) :]
    for command in (search, describe, python):
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=cli.directory,
            env={**cli.environment, "PATH": elsewhere},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "teaches_embedding" in done.stdout or "score" in done.stdout


def test_filters_hold_for_every_hit(cli: CommandLine) -> None:
    questions = _run(cli)["questions"]
    assert isinstance(questions, list)
    filtered = [q for q in questions if q["where"] and "quality_score >= 6" in q["where"]]
    assert filtered and all(h["data"]["quality_score"] >= 6 for q in filtered for h in q["results"])


def test_another_table_of_that_name_is_left_alone(cli: CommandLine, opened: Database) -> None:
    table = opened.create_table(TABLE, {"title": "string", "teaches": "string"})
    table.add_embedding_column(COLUMN, source="title")
    opened.close()
    done = cli("demo", "--limit-rows", "10")
    assert done.returncode == 1
    assert "is not the demo's" in done.stderr
    assert "vectable demo --db ./vectable-demo" in done.stderr
