"""Copies to a real PostgreSQL and back: the same rows, checksums and hits; killed on the way, they go on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

import vectable
from tests.copy.test_copy import SETTINGS
from tests.processes.programs import COMMAND, Programs, finished, kill
from tests.waiting import until

COLUMNS: dict[str, Any] = {
    "title": "string",
    "n": "int",
    "x": "float",
    "ok": "bool",
    "at": "timestamp",
    "meta": "json",
    "tags": "string[]",
    "v": {"type": "vector", "dimensions": 4},
}


def row(i: int) -> dict[str, Any]:
    return {
        "id": f"{i:05}",
        "title": None if i % 7 == 0 else f"book {i % 90}",
        "n": (1 << 62) + i,
        "x": i / 7,
        "ok": i % 2 == 0,
        "at": "2020-01-01T00:00:00.000001Z",
        "meta": {"a": [i, 1.5, None, True, {"b": "ü'\"\\"}]},
        "tags": ["", f"tag {i}", "a,b{}"],
        "v": [i, 1, 2, 3],
    }


def fill(directory: Path, rows: int) -> None:
    with vectable.connect(directory, **SETTINGS) as db:
        table = db.create_table("books", COLUMNS)
        table.add_embedding_column("emb", source="title")
        table.insert(row(i) for i in range(rows))
        table.create_index("v", "hnsw", m=8)


def test_there_and_back(tmp_path: Path, postgres_url: str) -> None:
    fill(tmp_path / "a", 2_300)
    with pytest.raises(vectable.errors.NotFound):
        vectable.copy(postgres_url, tmp_path / "none", **SETTINGS)
    assert not (tmp_path / "none").exists()
    [there] = vectable.copy(tmp_path / "a", postgres_url, **SETTINGS).tables
    [again] = vectable.copy(tmp_path / "a", postgres_url, **SETTINGS).tables
    [back] = vectable.copy(postgres_url, tmp_path / "b", **SETTINGS).tables
    assert [t.status for t in (there, again, back)] == ["copied", "verified", "copied"]
    assert [t.rows for t in (there, again, back)] == [2_300] * 3
    assert there.checksums == again.checksums == back.checksums
    assert there.searches == back.searches == 10
    with pytest.raises(vectable.errors.InvalidInput, match="same database"):
        vectable.copy(postgres_url, postgres_url, **SETTINGS)
    [both] = vectable.copy(tmp_path / "a", tmp_path / "b", **SETTINGS).tables
    assert (both.status, both.checksums) == ("verified", there.checksums)
    with (
        vectable.connect(tmp_path / "a", **SETTINGS) as ours,
        vectable.connect(postgres_url, **SETTINGS) as theirs,
    ):
        for text in ("book 7", "book 80"):
            hits = [
                [(r.id, r.score) for r in db.table("books").similar(text, on="emb").limit(10).collect()]
                for db in (ours, theirs)
            ]
            assert hits[0] == hits[1]


def test_a_table_changed_in_the_server_is_brought_over_or_left_alone(
    tmp_path: Path, postgres_url: str
) -> None:
    fill(tmp_path / "a", 300)
    vectable.copy(tmp_path / "a", postgres_url, **SETTINGS)
    vectable.copy(postgres_url, tmp_path / "b", **SETTINGS)
    with vectable.connect(postgres_url, **SETTINGS) as db:
        table = db.table("books")
        table.insert([row(i) for i in range(900, 905)])
        table.delete(table.id == "00003")
    [done] = vectable.copy(postgres_url, tmp_path / "b", **SETTINGS).tables
    assert (done.status, done.changed, done.rows) == ("caught up", 6, 304)
    with pytest.raises(vectable.errors.AlreadyExists, match="different"):
        vectable.copy(tmp_path / "a", postgres_url, **SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize("to_server", [True, False])
def test_killed_copies_go_on(tmp_path: Path, postgres_url: str, to_server: bool) -> None:
    programs = Programs(tmp_path)
    fill(tmp_path / "a", 12_000)
    source, target = str(tmp_path / "a"), postgres_url
    if not to_server:
        vectable.copy(source, target, **SETTINGS)
        source, target = target, str(tmp_path / "b")
    try:
        statuses = _killed_till_done(programs, source, target)
    finally:
        programs.end()
    assert statuses[-1] in ("continued", "verified", "caught up")
    assert not programs.embedded(), "copying embeds nothing"
    [done] = vectable.copy(source, target, **SETTINGS).tables
    assert (done.status, done.rows, done.searches) == ("verified", 12_000, 10)


def _killed_till_done(programs: Programs, source: str, target: str) -> list[str]:
    """Three copies, killed at whatever they are at, and one that is not."""
    for pause in (0.2, 0.6, 1.2):
        worker = programs.start(COMMAND, "copy", source, target)
        until(lambda: _begun(target))
        time.sleep(pause)
        kill(worker)
    done = json.loads(finished(programs.start(COMMAND, "copy", source, target, "--json")))
    return [table["status"] for table in done["tables"]]


def _begun(target: str) -> bool:
    """Whether a copy has left its record there: the destination is prepared by then."""
    import asyncio

    async def look() -> bool:
        from vectable import connect_async
        from vectable.storage import exists

        if not await exists(target):
            return False
        async with await connect_async(target, **SETTINGS) as database:
            page = await database.engine.state.scan("copy/")
            return bool(page)

    return asyncio.run(look())
