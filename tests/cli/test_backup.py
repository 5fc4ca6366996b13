"""backup and restore: the same rows come back, and nothing is replaced unasked."""

from __future__ import annotations

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
    assert refused.returncode == 1 and "exists" in refused.stderr
    assert "Get it back with: vectable restore" in books.ok("backup", "twice.vectable", "--overwrite")
    books.ok("restore", "twice.vectable", "--db", "there")
    refused = books("restore", "twice.vectable", "--db", "there")
    assert refused.returncode == 1 and "holds a database" in refused.stderr
    assert books.ok("restore", "twice.vectable", "--db", "there", "--overwrite").startswith("Restored")
