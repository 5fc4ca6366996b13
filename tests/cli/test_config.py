"""config: what is in force, and from where, as a server would take it."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import CommandLine


@pytest.fixture
def with_file(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """As the program runs commands: with the file `.env`."""
    monkeypatch.setenv("VECTABLE_ENV_FILE", ".env")
    return cli


def test_it_says_where_each_setting_comes_from(
    with_file: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (with_file.directory / ".env").write_text("VECTABLE_CACHE_MAX_SIZE=5\nPORT=1\n", "utf-8")
    monkeypatch.setenv("PORT", "4000")
    monkeypatch.setenv("VECTABLE_PRT", "1")
    done = with_file.inside("config", "--inline-cells", "7", "--no-preload", "--json")
    found = json.loads(done.stdout)
    settings = found["settings"]
    assert settings["inline_cells"] == {"value": 7, "from": "--inline-cells"}
    assert settings["preload"] == {"value": False, "from": "--preload"}
    assert settings["port"] == {"value": 4000, "from": "PORT"}
    assert settings["cache_max_size"] == {"value": 5, "from": ".env: VECTABLE_CACHE_MAX_SIZE"}
    assert settings["host"] == {"value": "127.0.0.1", "from": "default"}
    assert found["unknown"]["VECTABLE_PRT"].startswith("did you mean 'VECTABLE_PORT'")
    monkeypatch.setenv("VECTABLE_ENV_FILE", "")
    text = with_file.inside("config")
    assert ".env" not in text.stdout
    assert "VECTABLE_PRT sets nothing" in text.stderr
    assert list(with_file.directory.iterdir()) == [with_file.directory / ".env"], "looking makes nothing"


def test_passwords_are_not_shown(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://somebody:hunter2@db.example/books"
    for arguments in (["config", "--db", url], ["--db", url, "config", "--json"]):
        done = cli.inside(*arguments)
        assert done.returncode == 0, done.stderr
        assert "hunter2" not in done.stdout + done.stderr
        assert "db.example" in done.stdout
    monkeypatch.setenv("VECTABLE_DB", url)
    done = cli.inside("config")
    assert "hunter2" not in done.stdout
    assert "VECTABLE_DB" in done.stdout


def test_what_a_server_would_refuse_is_refused(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "70000")
    done = cli.inside("config")
    assert done.returncode == 1
    assert "give 0 to 65535" in done.stderr


def test_every_command_takes_the_database_of_the_file(cli: CommandLine) -> None:
    (cli.directory / ".env").write_text("VECTABLE_DB=./kept\n", "utf-8")
    (cli.directory / "rows.csv").write_text("id,title\n1,a\n", "utf-8")
    cli.ok("import", "notes", "rows.csv")
    assert (cli.directory / "kept" / "vectable.db").exists()
    assert "notes" in cli.ok("tables")
