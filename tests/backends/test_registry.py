"""Backends by URL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vectable.backends import Address, load_backend, parse_address
from vectable.backends.memory import MemoryBackend
from vectable.backends.sqlite import SqliteBackend
from vectable.errors import InvalidInput
from vectable.storage import database_directory


@pytest.mark.parametrize(
    ("url", "scheme", "path"),
    [
        ("./vectable-data", "sqlite", "./vectable-data"),
        ("/abs/dir", "sqlite", "/abs/dir"),
        ("data", "sqlite", "data"),
        ("a b/100%/日本", "sqlite", "a b/100%/日本"),
        ("C:\\data", "sqlite", "C:\\data"),
        ("sqlite:///abs/dir", "sqlite", "/abs/dir"),
        ("sqlite:///abs/a%20b", "sqlite", "/abs/a b"),
        ("sqlite:////abs/dir", "sqlite", "/abs/dir"),
        ("sqlite:relative", "sqlite", "relative"),
        ("SQLite:///x", "sqlite", "/x"),
        ("memory:", "memory", ""),
        ("memory://", "memory", ""),
    ],
)
def test_an_address_names_a_backend_and_a_place(url: str, scheme: str, path: str) -> None:
    assert parse_address(url) == Address(scheme, path)
    # What opens a database means the same.
    assert database_directory(url) == (Path(path) if path else None)


@pytest.mark.parametrize(
    "url",
    ["", " ", "a\x00b", "oracle://x", "sqlite:", "sqlite://", "sqlite:///", "sqlite://host/x", "memory:x"],
)
def test_what_is_no_address_is_told_what_one_looks_like(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_address(url)
    assert "memory:" in (caught.value.hint or "")


def test_backends_load_by_name() -> None:
    assert load_backend("sqlite") is SqliteBackend
    assert load_backend("memory") is MemoryBackend
    with pytest.raises(InvalidInput, match="known: memory, sqlite"):
        load_backend("oracle")


def test_naming_backends_imports_none() -> None:
    script = "import sys, vectable.backends; print('sqlite3' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
