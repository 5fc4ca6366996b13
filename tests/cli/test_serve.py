"""serve: a real server on a free port, stopped as servers are; and bench, which needs a checkout."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.conftest import CommandLine


def _first_document(stream: Any) -> Any:
    text = ""
    for line in stream:
        text += line
        if line.startswith("}"):
            return json.loads(text)
    raise AssertionError(f"no JSON document in {text!r}")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_the_database_until_stopped(books: CommandLine, stop: signal.Signals) -> None:
    with books.start("serve", "--port", "0", "--json") as process:
        try:
            said = _first_document(process.stdout)
            assert said["url"].startswith("http://127.0.0.1:")
            tables = httpx.get(f"{said['url']}/api/v1/tables", timeout=100).json()["tables"]
            assert [t["name"] for t in tables] == ["books"]
            assert httpx.get(said["docs"], timeout=100).status_code == 200
            process.send_signal(stop)
            _, err = process.communicate(timeout=100)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")


def test_a_log_for_programs_is_nothing_but_objects(books: CommandLine) -> None:
    flags = ("--log-format", "json", "--log-level", "info", "--no-preload")
    with books.start("serve", "--port", "0", *flags) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().rpartition(" ")[2].strip()
            assert httpx.get(f"{url}/health", timeout=100).status_code == 200
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=100)
        finally:
            process.kill()
    assert [json.loads(line)["message"] for line in err.splitlines()] == ["request"]


def test_it_serves_others_only_when_told_so(books: CommandLine) -> None:
    done = books("serve", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 1
    assert "can be reached from other machines" in done.stderr
    assert "--insecure" in done.stderr


def test_a_port_that_is_taken_is_said_to_be(books: CommandLine) -> None:
    with books.start("serve", "--port", "0", "--json") as process:
        try:
            port = _first_document(process.stdout)["url"].rpartition(":")[2]
            done = books("serve", "--port", port)
            assert done.returncode == 1
            assert "choose another --port" in done.stderr
        finally:
            process.kill()


def test_every_setting_of_the_server_is_a_flag() -> None:
    from dataclasses import fields

    from vectable.cli.config import config_command
    from vectable.cli.serve import serve_command
    from vectable.config import Settings

    for command in (serve_command, config_command):
        flags = {p.name for p in command.params}
        # A model named in a request is never a path, whatever the settings say.
        assert {f.name for f in fields(Settings)} - {"model_paths"} <= flags


def test_flags_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from vectable.cli.commands import vectable
    from vectable.config import Settings
    from vectable.server import run

    seen: list[Settings] = []
    monkeypatch.setattr(run, "serve", lambda settings, **_: seen.append(settings))
    monkeypatch.setenv("VECTABLE_PORT", "4001")
    flags = ["--db", "x", "--cache-max-size", "7", "--synchronous", "normal", "--insecure", "--host", "::1"]
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert CliRunner().invoke(vectable, ["serve", *flags]).exit_code == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    (settings,) = seen
    assert (settings.db, settings.port, settings.cache_max_size) == ("x", 4001, 7)
    assert (settings.synchronous, settings.insecure, settings.host) == ("normal", True, "::1")
    assert settings.fake_embeddings is Settings.from_environment().fake_embeddings


def test_bench_runs_the_checkouts_benchmarks(cli: CommandLine) -> None:
    (cli.directory / "benchmarks").mkdir()
    (cli.directory / "benchmarks" / "__init__.py").write_text("")
    (cli.directory / "benchmarks" / "__main__.py").write_text(
        "import sys; print(sys.argv[1:]); sys.exit(3)\n"
    )
    done = cli("bench", "--only", "a", "--only", "b", "--json", "--rows", "5")
    assert done.stdout == "['--only', 'a', '--only', 'b', '--json', '--rows', '5']\n"
    assert done.returncode == 3


def test_bench_says_where_the_benchmarks_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import vectable
    from vectable.cli.entry import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        vectable, "__file__", str(tmp_path / "lib" / "site-packages" / "vectable" / "__init__.py")
    )
    assert run(["bench"]) == 1
    assert "they are part of the source checkout" in capsys.readouterr().err
