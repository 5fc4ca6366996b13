"""Copies killed with -9 wherever they are: the next goes on, nothing is published half, or embedded again."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.processes.programs import COMMAND, Programs, finished, kill
from tests.waiting import until

ROWS = 30_000
MADE = f"""
import numpy as np
t = db.create_table("t", {{"title": "string", "v": {{"type": "vector", "dimensions": 8}}, "meta": "json"}})
random = np.random.default_rng(3)
t.insert(
    {{"id": f"{{i:06}}", "title": f"text {{i % 50}}", "v": random.normal(size=8), "meta": {{"n": i}}}}
    for i in range({ROWS})
)
t.add_embedding_column("emb", source="title")
t.create_index("v", "hnsw", m=8)
"""
CHANGED = """
t = db.table("t")
round = int(sys.argv[2])
t.update(t.id == f"{round:06}", {"title": f"text {round + 1}"})
t.delete(t.id == f"{round + 100:06}")
t.insert([{"id": f"new {round}", "title": "text 1", "v": [1.0] * 8}])
"""
SEEN = """
import hashlib, json
t = db.table("t")
seen = hashlib.blake2b()
for row in t.select("id", "title", "v", "emb", "meta").order_by("id").stream():
    cells = row["v"].tobytes(), row["emb"].tobytes()
    seen.update(repr((row["id"], row["title"], row["meta"], *cells)).encode())
hits = [(r["id"], r.score) for r in t.similar("text 7", on="emb").limit(20).select("id").collect()]
print(json.dumps([t.count(), seen.hexdigest(), hits, [i["status"] for i in t.indexes()], t.states("emb")]))
"""

LIMITED = """
from vectable.engine.copy.record import Records
save = Records.save

async def save_and_rest(self, record):
    await save(self, record)
    if record.copied >= int(os.environ["TEST_COPY_ROWS"]):
        await asyncio.sleep(600)

Records.save = save_and_rest
"""
"""A copy that does not go on after so many rows: no machine is so fast that it ends before it is killed."""


def progress_of(programs: Programs) -> tuple[int, bool]:
    """Rows that the record of the copy counts, and whether the destination's catalogue has the table."""
    file = programs.directory / "copied" / "vectable.db"
    if not file.exists():
        return 0, False
    with sqlite3.connect(file, timeout=60) as connection:
        try:
            found = dict(connection.execute("SELECT key, value FROM state"))
        except sqlite3.OperationalError:
            return 0, False  # it is being made
    records = [json.loads(v) for k, v in found.items() if str(k).startswith("copy/")]
    return max((r["copied"] for r in records), default=0), any(r["done"] for r in records)


def copied_to(programs: Programs) -> Programs:
    return Programs(programs.directory, str(programs.directory / "copied"))


def _ended_or_copied_more(
    programs: Programs, worker: subprocess.Popen[str], before: int
) -> Callable[[], bool]:
    return lambda: worker.poll() is not None or progress_of(programs)[0] > before


@pytest.mark.slow
def test_a_copy_killed_again_and_again_arrives_whole(programs: Programs) -> None:
    """The source changes between the attempts, too."""
    programs.run(MADE)
    embedded = programs.embedded()
    chance, before, kills = random.Random(5), 0, 0
    for round_ in range(6):
        limit = {"TEST_COPY_ROWS": str(ROWS * 2 if round_ > 3 else before + 4_000)}
        worker = programs.start(LIMITED + COMMAND, "copy", "db", "copied", env=limit)
        until(_ended_or_copied_more(programs, worker, before))
        time.sleep(chance.uniform(0, 0.15))
        if worker.poll() is None:
            kill(worker)
            kills += 1
        copied, done = progress_of(programs)
        assert copied >= before, "what was copied is not copied again"
        before = copied
        if done:
            break
        tables = copied_to(programs).run("print([table.full_name for table in db.tables()])")
        assert tables == "[]\n", "half a table is shown to nobody"
        programs.run(CHANGED, round_)
    assert kills >= 3
    made = programs.embedded() - embedded
    last: dict[str, Any] = json.loads(finished(programs.start(COMMAND, "copy", "db", "copied", "--json")))
    statuses = [table["status"] for table in last["tables"]]
    assert statuses in (["continued"], ["verified"], ["caught up"])
    assert last["tables"][0]["searches"] == 10
    assert json.loads(copied_to(programs).run(SEEN)) == json.loads(programs.run(SEEN))
    assert programs.embedded() - embedded == made, "copying and reading embed nothing"
