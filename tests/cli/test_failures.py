"""Failures: an exit code, one sentence and a hint on standard error; never a traceback or half an answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.cli.conftest import CommandLine

LOOKING = [
    ["tables"], ["status"], ["describe", "books"], ["search", "books", "worms"], ["backup", "b.vectable"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", LOOKING)
def test_looking_at_a_database_that_is_not_there_creates_none(cli: CommandLine, arguments: list[str]) -> None:
    done = cli.inside(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: There is no database in vectable-data.\n  Hint: ")
    assert list(cli.directory.iterdir()) == []


def test_what_went_wrong_is_json_where_json_was_asked_for(books: CommandLine) -> None:
    done = books("describe", "bok", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert json.loads(done.stderr) == {
        "error": "there is no table 'bok'",
        "code": "table-not-found",
        "hint": "did you mean 'books'?",
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["search", "books"], "Missing argument 'TEXT'"),
        (["search", "books", "x", "--limt", "3"], "No such option '--limt'"),
        (["search", "books", "x", "--limit", "10001"], "10001 is not in the range"),
        (["search", "books", "x", "--param", "3"], "--param gives the value of a ?"),
        (["import", "new", "books.csv", "--type", "year"], "does not read COLUMN=TYPE"),
    ],
)
def test_what_is_not_understood_exits_2(books: CommandLine, arguments: list[str], sentence: str) -> None:
    done = books.inside(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert "Hint: see vectable" in done.stderr


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("seach", "did you mean 'search'"),
        ("xyzzy", "known commands: attach, backup, bench, config"),
    ],
)
def test_a_misspelt_command_is_told_what_there_is(cli: CommandLine, name: str, hint: str) -> None:
    done = cli.inside(name)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"No such command '{name}'" in done.stderr
    assert hint in done.stderr
    assert json.loads(cli.inside(name, "--json").stderr)["hint"].startswith(hint)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["search", "books", "x", "--where", "yera > 3"], "Hint: did you mean 'year'?"),
        (["search", "books", "x", "--where", "year >"], "Error: "),
        (["search", "books", "x", "--where", "year > ?"], "Error: "),
        (["search", "books", "x", "--on", "title"], "vector columns: blurb_embedding"),
        (["search", "books", ""], "the text to search for is empty"),
        (["tables", "--db", "mysql://here"], "give a directory, sqlite:///DIRECTORY, postgresql://"),
        (["tables", "--db", "memory:"], "a database in memory is empty"),
        (
            ["tables", "--db", "postgresql://me@127.0.0.1:1/x"],
            "Error: postgresql://me@127.0.0.1:1/x cannot be",
        ),
        (["models", "no/such-model"], "no/such-model"),
        (["restore", "books.csv", "--db", "again"], "Hint: name another file made by vectable backup"),
    ],
)
def test_what_cannot_be_done_exits_1_and_says_why(
    books: CommandLine, arguments: list[str], sentence: str
) -> None:
    done = books.inside(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence.lower() in done.stderr.lower()
    assert "Error: Postgresql" not in done.stderr
    assert not (books.directory / "again" / "vectable.db").exists()


def test_a_damaged_database_is_said_to_be_one(cli: CommandLine) -> None:
    (cli.database).mkdir()
    (cli.database / "vectable.db").write_bytes(b"not a database at all" * 500)
    done = cli("tables")
    assert done.returncode == 1
    assert "Hint: restore a backup" in done.stderr


def test_names_cannot_drive_the_terminal(books: CommandLine) -> None:
    done = books("describe", "\x1b]0;owned\x07evil")
    assert done.returncode == 1
    assert "\x07" not in done.stderr


def test_a_reader_that_goes_away_is_no_failure(books: CommandLine) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with books.start("describe", "books", "--json", stdout=writing) as process:
        os.close(writing)
        _, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (0, "")


def test_interrupting_exits_130(cli: CommandLine) -> None:
    fifo = cli.directory / "endless.jsonl"
    os.mkfifo(fifo)
    with cli.start("demo", "--limit-rows", "2000") as process:
        assert process.stdout is not None
        assert "searched by meaning" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "goes on where this one stopped" in err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals_that_want_them(
    books: CommandLine, environment: dict[str, str], coloured: bool
) -> None:
    import pty

    ours, theirs = pty.openpty()
    with books.start("describe", "bok", stderr=theirs, env={"TERM": "xterm", **environment}) as process:
        os.close(theirs)
        seen = os.read(ours, 4_000).decode()
        process.wait(100)
    os.close(ours)
    assert "no table" in seen
    assert ("\x1b[31m" in seen) is coloured
    assert "\x1b" not in books("describe", "bok").stderr


def test_a_defect_is_a_sentence_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vectable.cli import commands, entry

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(commands.vectable, "main", broken)
    assert entry.run(["tables"]) == entry.FAILED
    assert "Unexpected ZeroDivisionError: division by zero." in capsys.readouterr().err
    monkeypatch.setenv("VECTABLE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        entry.run(["tables"])


def test_it_is_installed_as_a_program() -> None:
    from importlib.metadata import entry_points

    (found,) = entry_points(group="console_scripts", name="vectable")
    assert found.value == "vectable.cli:main"
    done = subprocess.run(
        [sys.executable, "-m", "vectable.cli", "--version"], capture_output=True, timeout=100
    )
    assert done.stdout.startswith(b"vectable ")
