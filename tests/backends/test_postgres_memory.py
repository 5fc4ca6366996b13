"""A table far larger than the memory that reading, ordering and copying it may take."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import vectable
from vectable.blocking import Table

ROWS, CHARACTERS = 8_000, 6_000
ALLOWED = 36 << 20
"""Bytes: three pages of rows, or what a copy reads ahead."""


@pytest.fixture
def table(postgres_url: str, tmp_path: Path) -> Iterator[Table]:
    with vectable.connect(postgres_url, cache_dir=tmp_path / "cache") as database:
        columns = {"id": "int", "text": "string", "v": {"type": "vector", "dimensions": 8}}
        table = database.create_table("large", columns)
        table.insert(
            {"id": i, "text": os.urandom(CHARACTERS // 2).hex(), "v": np.full(8, i + 1, np.float32)}
            for i in range(ROWS)
        )
        yield table


def peak(work: Callable[[], object]) -> int:
    """Bytes of Python's that `work` held at most, beyond those held before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_reading_ordering_and_copying_take_no_more_for_more_rows(
    table: Table, postgres_url: str, tmp_path: Path
) -> None:
    def read() -> None:
        assert sum(len(row["text"]) for row in table.where().stream()) == ROWS * CHARACTERS

    def ordered() -> None:
        last = ""
        for row in table.order_by("text").select("text").stream():
            assert row["text"] >= last
            last = row["text"]

    def copied() -> None:
        vectable.copy(postgres_url, tmp_path / "copy", ["large"])

    found = {work.__name__: peak(work) for work in (read, ordered, copied)}
    assert {name: held for name, held in found.items() if held > ALLOWED} == {}, found
    with vectable.connect(tmp_path / "copy") as database:
        assert database.table("large").count() == ROWS
