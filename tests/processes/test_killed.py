"""Programs killed with -9 wherever they are: what was acknowledged is there, once; nothing needs repair."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from tests.processes.programs import Programs, finished, kill, line_of, lines
from tests.waiting import until

REPEATED = 512
"""Vectors are kept as they come, but twice a second at most, and at the end of every page of so many cells: a
crash repeats no more than that, however fast the model."""
TABLE = """
db.create_table("t", {"title": "string", "batch": "string"})
db.table("t").add_embedding_column("emb", source="title")
"""
INSERTER = """
who, size = sys.argv[2], int(sys.argv[3])
acknowledged = os.open(sys.argv[4], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
t = db.table("t")
print("going", flush=True)
for i in range(1_000_000):
    batch = f"{who}-{i}"
    t.insert([{"title": f"{batch} {j}", "batch": batch} for j in range(size)], wait=False)
    os.write(acknowledged, f"{batch}\\n".encode())
"""
LOOK = """
import json, time
t = db.table("t")
if len(sys.argv) > 2:
    t.insert({"title": "last", "batch": "last"})  # a writer takes up what the killed ones left
deadline = time.monotonic() + 90
while True:
    states = t.states("emb")
    jobs = [(j.kind, j.status) for j in db.jobs()]
    busy = states["new"] or states["stale"] or any(s in ("queued", "running") for _, s in jobs)
    if not busy or len(sys.argv) < 3 or time.monotonic() > deadline:
        break
    time.sleep(0.05)
batches = {}
for row in t.select("batch", "title").stream():
    batches.setdefault(row["batch"], []).append(row["title"])
vectors = sum(1 for _ in t.similar("last", on="emb").select("id").stream())
print(json.dumps({"batches": batches, "states": states, "jobs": jobs, "found": vectors}))
"""


def checked(programs: Programs, log: Path, size: int, *, drain: bool = False) -> dict[str, Any]:
    """What the next program finds: whole batches, every acknowledged one among them, each row once."""
    found: dict[str, Any] = json.loads(programs.run(LOOK, *(["drain"] if drain else [])))
    batches = {name: titles for name, titles in found["batches"].items() if name != "last"}
    for name, titles in batches.items():
        assert sorted(titles) == sorted(f"{name} {j}" for j in range(size))
    assert batches.keys() >= set(lines(log))
    rows = sum(map(len, found["batches"].values()))
    assert sum(n for state, n in found["states"].items() if state != "in_progress") == rows
    assert found["found"] == found["states"]["ready"]
    if programs.db.exists():
        file = sqlite3.connect(programs.db / "vectable.db")
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        file.close()
    return found


def sleep_or_see(log: Path, chance: random.Random) -> None:
    """Until something more is acknowledged, then a moment of any length up to that of a few batches."""
    size = log.stat().st_size if log.exists() else 0
    until(lambda: log.exists() and log.stat().st_size > size)
    time.sleep(chance.uniform(0, 0.06))


@pytest.mark.slow
@pytest.mark.parametrize(("place", "size"), [("directory", 5), ("directory", 150), ("server", 150)])
def test_killed_writers_lose_nothing_and_the_next_one_drains(programs: Programs, size: int) -> None:
    """`size` 5 is embedded within the write, 150 by a job."""
    programs.run(TABLE)
    log, chance = programs.directory / "acknowledged", random.Random(size)
    slow = {"TEST_EMBED_PAUSE": "0.005", "TEST_EMBED_BATCH": "50"}
    rounds = 2
    for round_ in range(rounds):
        writers = [programs.script(INSERTER, f"{round_}{w}", size, log, env=slow) for w in "ab"]
        for writer in writers:
            assert line_of(writer) == "going"
        sleep_or_see(log, chance)
        for writer in writers:
            kill(writer)
        checked(programs, log, size)
    found = checked(programs, log, size, drain=True)
    assert found["states"] | {"in_progress": 0} == {
        **dict.fromkeys(found["states"], 0), "ready": found["found"]
    }  # fmt: skip
    assert {status for _, status in found["jobs"]} <= {"done"}
    repeated = sum(programs.embedded().values()) - len(programs.embedded())
    assert repeated <= rounds * REPEATED


BACKFILL = """
t = db.table("t")
print("going", flush=True)
t.add_embedding_column("emb", source="title")
print("filled", flush=True)
"""


@pytest.mark.slow
def test_a_killed_backfill_is_finished_by_the_next_writer(programs: Programs) -> None:
    rows = 'db.table("t").insert([{"title": f"text {i}", "batch": "x"} for i in range(600)])'
    programs.run('db.create_table("t", {"title": "string", "batch": "string"}); ' + rows)
    slow = {"TEST_EMBED_PAUSE": "0.02", "TEST_EMBED_BATCH": "20"}
    worker = programs.script(BACKFILL, env=slow)
    assert line_of(worker) == "going"
    until(lambda: len(programs.embedded()) > 100)
    out, _ = kill(worker)
    assert out == ""
    found = json.loads(programs.run(LOOK, "drain"))
    assert found["states"]["ready"] == found["found"] == 601
    assert found["jobs"] == [["refresh", "done"]]
    embedded = programs.embedded()
    assert len(embedded) == 601
    assert sum(embedded.values()) - len(embedded) <= REPEATED


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "stage"),
    [("directory", "alter"), ("directory", "settle"), ("directory", "backfill"), ("server", "settle")],
)
def test_a_column_killed_while_it_is_added_is_filled_all_the_same(programs: Programs, stage: str) -> None:
    """Between the definition's steps, where no job is recorded yet."""
    rows = 'db.table("t").insert([{"title": f"text {i}", "batch": "x"} for i in range(20)])'
    programs.run('db.create_table("t", {"title": "string", "batch": "string"}); ' + rows)
    die = f"""
from vectable.engine.catalog import Catalog
from vectable.engine.refresh import Refresher
from vectable.backends.sqlite import SqliteBackend

async def die(*args, **options):
    os.kill(os.getpid(), 9)

{
        {
            "alter": "SqliteBackend.alter = die",
            "settle": "Catalog.by_id = die",
            "backfill": "Refresher.backfill = die",
        }[stage]
    }
db.table("t").add_embedding_column("emb", source="title")
"""
    worker = programs.script(die)
    worker.communicate()
    assert worker.returncode == -9
    found = json.loads(programs.run(LOOK, "drain"))
    assert found["states"]["ready"] == found["found"] == 21


INDEXED = """
import numpy as np
t = db.create_table("v", {"emb": {"type": "vector", "dimensions": 16}})
vectors = np.random.default_rng(1).normal(size=(8_000, 16)).astype("float32")
t.insert([{"id": f"{i:04}", "emb": v} for i, v in enumerate(vectors)])
"""
BUILD = """
t = db.table("v")
print("going", flush=True)
print(t.create_index("emb", "hnsw", m=32, ef_construction=400), flush=True)
"""
BUILT = """
import time
t = db.table("v")
t.insert({"id": "more", "emb": [1.0] * 16})
deadline = time.monotonic() + 90
while [i["status"] for i in t.indexes()] != ["ready"] and time.monotonic() < deadline:
    time.sleep(0.05)
for job in db.jobs():
    db.wait(job.id)  # an index is ready a moment before its job is done
print([i["status"] for i in t.indexes()], {j.status for j in db.jobs()})
hits = t.similar([1.0] * 16, on="emb").limit(10).collect()
assert hits[0]["id"] == "more" and len(hits) == 10
"""


@pytest.mark.slow
def test_a_killed_index_build_is_begun_again(programs: Programs) -> None:
    programs.run(INDEXED)
    worker = programs.script(BUILD)
    assert line_of(worker) == "going"
    look = "print([j.status for j in db.jobs()], [i['status'] for i in db.table('v').indexes()])"
    time.sleep(0.3)
    until(lambda: programs.run(look), lambda seen: "running" in seen or "done" in seen)
    kill(worker)
    assert programs.run(BUILT) == "['ready'] {'done'}\n"


@pytest.mark.slow
def test_a_killed_import_can_be_repeated(programs: Programs) -> None:
    file = programs.directory / "t.jsonl"
    rows = [{"id": f"{i:05}", "title": f"text {i}", "batch": "x"} for i in range(8_000)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loading = programs.command("import", "t", file)
    count = 'from vectable.errors import TableNotFound\ntry: print(db.table("t").count())\n'
    count += "except TableNotFound: print(0)"
    until(lambda: int(programs.run(count)) > 0)
    kill(loading)
    kept = int(programs.run(count))
    assert kept % 1_000 == 0 or kept == 8_000
    again = json.loads(programs.vectable("import", "t", file, "--on-conflict", "skip", "--json"))
    assert (again["inserted"], again["skipped"]) == (8_000 - kept, kept)
    assert int(programs.run(count)) == 8_000


@pytest.mark.slow
def test_a_killed_backup_leaves_no_half_file(programs: Programs) -> None:
    programs.run(INDEXED)
    file = programs.directory / "copy"

    def at() -> list[str]:
        return [p.name for p in programs.directory.iterdir() if "copy" in p.name]

    copying = programs.command("backup", file)
    until(at)
    kill(copying)
    if not file.exists():
        programs.vectable("backup", file)
    restored = Programs(programs.directory / "elsewhere")
    restored.directory.mkdir()
    finished(restored.command("restore", file))
    assert restored.run('print(db.table("v").count())') == "8000\n"


def test_each_distinct_text_is_embedded_once_in_an_unbroken_run(programs: Programs) -> None:
    programs.run(TABLE)
    rows = "[{'title': f'text {i % 70}', 'batch': 'x'} for i in range(400)]"
    programs.run(f'db.table("t").insert({rows}[:90]); db.table("t").insert({rows})')
    assert programs.embedded() == {f"text {i}": 1 for i in range(70)}
    # Another program finds them in the file.
    programs.run(f'db.table("t").upsert({rows})')
    programs.run('db.table("t").add_embedding_column("second", template="{title}")')
    assert programs.embedded() == {f"text {i}": 1 for i in range(70)}
