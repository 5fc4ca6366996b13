"""Processes over one database that need the same texts of a priced remote model: one pays, and if it dies
another does."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.providers.misbehaving_server import (
    Exchange,
    MisbehavingServer,
    honestly,
    misbehaving_server,
    never,
)
from tests.waiting import LIMIT_S, until

TEXTS = 40
PROGRAM = f"""
import sys
import vectable

with vectable.connect("./db", models_file="models.toml") as db:
    print("ready", flush=True)
    sys.stdin.readline()
    print(db.embed([f"text {{i}}" for i in range({TEXTS})], model="m").shape, flush=True)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MisbehavingServer]:
    with misbehaving_server() as found:
        (tmp_path / "models.toml").write_text(
            f'[models.m]\nprovider = "openai"\nurl = "{found.url}"\ndimensions = 32\n'
            "price_per_million_tokens = 1\nmax_items = 10\ndaily_spend_cap = 1\n"
        )
        yield found


@contextmanager
def program(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """One that has opened the database, and embeds once told to."""
    started = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=directory, text=True, stdin=-1, stdout=-1, stderr=-1
    )
    try:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        yield started
    finally:
        started.kill()
        started.communicate()


def slowly(exchange: Exchange) -> None:
    exchange.server.released.wait(0.3)
    honestly(exchange)


def test_each_text_is_paid_for_once(server: MisbehavingServer, tmp_path: Path) -> None:
    server.always = slowly
    with program(tmp_path) as first, program(tmp_path) as second:
        for each in (first, second):
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        for each in (first, second):
            out, err = each.communicate(timeout=LIMIT_S)
            assert out == f"({TEXTS}, 32)\n", err
    assert Counter(server.texts) == Counter(f"text {i}" for i in range(TEXTS))


def test_what_a_killed_process_claimed_another_pays_for(server: MisbehavingServer, tmp_path: Path) -> None:
    server.always = never
    with program(tmp_path) as first, program(tmp_path) as second:
        assert first.stdin is not None
        first.stdin.write("go\n")
        first.stdin.flush()
        until(lambda: len(server.texts) == TEXTS)
        first.kill()
        first.wait()
        server.always = None
        out, err = second.communicate("go\n", timeout=LIMIT_S)
        assert out == f"({TEXTS}, 32)\n", err
    assert Counter(server.texts) == Counter({f"text {i}": 2 for i in range(TEXTS)})
