"""Databases by URL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vectable
from vectable.errors import InvalidInput
from vectable.storage import database_directory


@pytest.mark.parametrize(
    ("url", "directory"),
    [
        ("./vectable-data", "./vectable-data"),
        ("/abs/dir", "/abs/dir"),
        ("data", "data"),
        ("a b/100%/日本", "a b/100%/日本"),
        ("C:\\data", "C:\\data"),
        ("./oracle:data", "./oracle:data"),
        (Path("oracle:data"), "oracle:data"),
        ("sqlite:///abs/dir", "/abs/dir"),
        ("sqlite:///abs/a%20b", "/abs/a b"),
        ("sqlite:////abs/dir", "/abs/dir"),
        ("sqlite:relative", "relative"),
        ("sqlite:///./relative", "relative"),
        ("sqlite:///../beside", "../beside"),
        ("sqlite:////./abs", "/./abs"),
        ("sqlite:///.hidden", "/.hidden"),
        ("SQLite:///x", "/x"),
        ("memory:", None),
        ("memory://", None),
    ],
)
def test_an_address_names_a_place(url: str | Path, directory: str | None) -> None:
    assert database_directory(url) == (None if directory is None else Path(directory))


@pytest.mark.parametrize(
    "url",
    [
        "", " ", "a\x00b", "oracle://x", "sqlite:", "sqlite://", "sqlite:///", "sqlite://host/x", "memory:x",
        "sqlite:///a%00b", 5, b"data",
    ],
)  # fmt: skip
def test_what_is_no_address_is_told_what_one_looks_like(url: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        vectable.connect(url)
    assert "memory:" in (caught.value.hint or "")


def test_storage_imports_no_backend_before_it_is_asked_for() -> None:
    script = "import sys, vectable.storage; print({'vectable.backends', 'sqlite3'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
