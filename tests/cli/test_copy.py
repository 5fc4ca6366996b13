"""copy: tables arrive elsewhere as they are, and what cannot be copied is refused before anything is made."""

from __future__ import annotations

import json
import os
import sys

import pytest

from tests.cli.conftest import CommandLine


def test_a_copy_answers_alike_and_says_what_was_checked(books: CommandLine) -> None:
    done = books.json("copy", "vectable-data", "elsewhere")
    [table] = done["tables"]
    assert (table["name"], table["status"], table["rows"], table["searches"]) == ("books", "copied", 3, 3)
    assert set(table["checksums"]) >= {"id", "title", "blurb", "blurb_embedding"}
    assert done["cached"] == 3
    question = ["search", "books", "planets", "--select", "id,title"]
    assert books.json(*question, "--db", "elsewhere")["results"] == books.json(*question)["results"]
    shown = books.ok("copy", "vectable-data", "elsewhere", "books")
    assert "books: there already, 3 rows; checked" in shown


def test_named_tables_only(books: CommandLine) -> None:
    books.ok("import", "others", "books.csv", "--db", "two")
    books.ok("import", "books", "books.csv", "--db", "two")
    books.ok("copy", "two", "one", "others")
    assert [t["name"] for t in books.json("tables", "--db", "one")["tables"]] == ["others"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("copy", "nowhere", "made"), 1, "no database of Vectable's in nowhere"),
        (("copy", "vectable-data", "./vectable-data/"), 1, "same database"),
        (("copy", "sqlite:vectable-data", "vectable-data"), 1, "same database"),
        (("copy", "vectable-data", "made", "bokos"), 1, "bokos"),
        (("copy", "memory:", "made"), 1, "in memory"),
        (("copy", "vectable-data", "memory:"), 1, "in memory"),
        (("copy", "gopher://there", "made"), 1, "gopher"),
        (("copy", "vectable-data", "gopher://there"), 1, "gopher"),
        (("copy", "vectable-data"), 2, "DST_URL"),
    ],
)
def test_what_cannot_be_copied_is_refused_and_nothing_made(
    books: CommandLine, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = books.inside(*arguments, "--json")
    assert (done.returncode, done.stdout) == (code, "")
    assert said in json.loads(done.stderr)["error"]
    assert not (books.directory / "made").exists()
    assert not (books.directory / "nowhere").exists()


def test_the_same_database_by_another_name_is_refused(books: CommandLine) -> None:
    (books.directory / "link").symlink_to("vectable-data")
    done = books.inside("copy", "vectable-data", "link")
    assert done.returncode == 1 and "same database" in done.stderr


def test_a_restored_backup_is_another_database(books: CommandLine) -> None:
    books.ok("backup", "b.vectable", "--overwrite")
    books.ok("restore", "b.vectable", "--db", "restored")
    [table] = books.json("copy", "vectable-data", "restored")["tables"]
    assert table["status"] == "verified"


def test_a_table_the_destination_has_changed_is_left_alone(books: CommandLine) -> None:
    books.ok("copy", "vectable-data", "own")
    rows = (books.directory / "books.csv").read_text("utf-8")
    (books.directory / "more.csv").write_text(rows.replace("Dune", "Dunes"), "utf-8")
    books.ok("import", "books", "more.csv", "--on-conflict", "replace", "--db", "own")
    refused = books("copy", "vectable-data", "own")
    assert refused.returncode == 1
    assert "is different: 1 of its rows" in refused.stderr and "Hint: drop or rename" in refused.stderr


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo-terminals")
def test_progress_is_for_terminals(books: CommandLine) -> None:
    """A pseudo-terminal as standard error shows a bar; a pipe shows nothing."""
    lines = ["id,title", *(f"{i},title {i}" for i in range(5_000))]
    (books.directory / "many.csv").write_text("\n".join(lines), "utf-8")
    books.ok("import", "many", "many.csv", "--db", "many")
    assert books("copy", "many", "piped").stderr == ""
    ours, theirs = os.openpty()
    # However fast the machine: as if it had taken a while.
    shown_at_once = "from vectable.handles import progress; progress.PATIENCE = 0.0"
    program = [sys.executable, "-c", f"{shown_at_once}; from vectable.cli import main; main()"]
    environment = {"TERM": "xterm"}
    process = books.start("copy", "many", "watched", program=program, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65_536):
            shown += part
    except OSError:
        pass  # how Linux says that the other end is closed
    out, _ = process.communicate(timeout=100)
    os.close(ours)
    assert process.returncode == 0 and "many: copied, 5,000 rows" in out
    assert b"copy many" in shown and b"rows/s" in shown and b" left" in shown
