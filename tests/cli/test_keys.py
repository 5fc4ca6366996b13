"""keys: made and shown once, listed without secrets, revoked."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import click
import pytest

from tests.cli.conftest import CommandLine
from vectable.cli.keys import parse_moment

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def told(cli: CommandLine, *arguments: str) -> Any:
    """What a command that must succeed says with --json."""
    done = cli.inside("keys", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_life_of_a_key(cli: CommandLine) -> None:
    made = told(cli, "create", "ci", "--role", "write", "--table", "books", "--expires", "90d")
    secret = made["key"].removeprefix(f"vt_{made['id']}_")
    assert secret != made["key"]
    assert (made["role"], made["tables"]) == ("write", ["books"])
    shown = cli.inside("keys", "create", "other")
    assert shown.stdout.startswith("vt_") and len(shown.stdout.splitlines()) == 1
    assert "not shown again" in shown.stderr
    listed = cli.inside("keys", "list").stdout
    assert "ci" in listed and "books" in listed and "active" in listed
    assert secret not in listed + json.dumps(told(cli, "list"))
    assert "is revoked" in cli.inside("keys", "revoke", "ci").stdout
    states = {k["name"]: k["state"] for k in told(cli, "list")["keys"]}
    assert states == {"ci": "revoked", "other": "active"}
    failed = cli.inside("keys", "revoke", "othr")
    assert failed.returncode == 1
    assert "did you mean 'other'" in failed.stderr
    for stored in cli.database.glob("*.db*"):
        assert secret.encode() not in stored.read_bytes()


def test_listing_makes_no_database(cli: CommandLine) -> None:
    assert cli.inside("keys", "list").returncode == 1
    assert list(cli.directory.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30m", NOW + dt.timedelta(minutes=30)),
        ("2w", NOW + dt.timedelta(weeks=2)),
        ("2027-01-31", dt.datetime(2027, 1, 31, tzinfo=dt.UTC)),
        ("2027-01-31T12:00:00+02:00", dt.datetime(2027, 1, 31, 10, tzinfo=dt.UTC)),
    ],
)
def test_moments(text: str, moment: dt.datetime) -> None:
    assert parse_moment(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "soon", "-5d", "5y", "999999w", "2027-13-01", "9999-12-31T23:00-12:00"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_moment(text, NOW)
