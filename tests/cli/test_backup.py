"""backup and restore: the same rows come back, and nothing is replaced unasked."""

from __future__ import annotations

import vectable
from tests.api.test_progress import run_in_terminal
from tests.cli.conftest import CommandLine


def test_a_backup_restored_elsewhere_answers_alike(books: CommandLine) -> None:
    written = books.json("backup", "b.vectable")
    assert written == {"file": "b.vectable", "bytes": (books.directory / "b.vectable").stat().st_size}
    assert books.json("restore", "b.vectable", "--db", "again") == {"db": "again", "file": "b.vectable"}
    question = ["search", "books", "planets", "--select", "id,title"]
    assert books.json(*question, "--db", "again")["results"] == books.json(*question)["results"]


def test_nothing_is_overwritten_unasked(books: CommandLine) -> None:
    books.ok("backup", "twice.vectable")
    refused = books("backup", "twice.vectable")
    assert refused.returncode == 1 and "exists" in refused.stderr and "--overwrite" in refused.stderr
    assert "Get it back with: vectable restore" in books.ok("backup", "twice.vectable", "--overwrite")
    books.ok("restore", "twice.vectable", "--db", "there")
    refused = books("restore", "twice.vectable", "--db", "there")
    assert refused.returncode == 1 and "holds a database" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert books.ok("restore", "twice.vectable", "--db", "there", "--overwrite").startswith("Restored")


def test_a_restore_shows_progress_on_a_terminal_only(cli: CommandLine) -> None:
    with vectable.connect(cli.database) as db:
        db.create_table("big", {"text": "string"}).insert([{"text": "x" * 100_000} for _ in range(100)])
    cli.ok("backup", "big.vectable")
    assert cli("restore", "big.vectable", "--db", "piped").stderr == ""
    command = ["restore", str(cli.directory / "big.vectable"), "--db", str(cli.directory / "watched")]
    seen = run_in_terminal(f"""
        from vectable.cli.entry import run
        from vectable.handles import progress
        progress.PATIENCE = 0.0
        assert run({command!r}) == 0
    """)
    assert "pages/s" in seen
    assert "left" in seen
