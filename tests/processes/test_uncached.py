"""Columns with `cache=False` share no vectors; still, of several processes one embeds a row."""

from __future__ import annotations

import pytest

from tests.processes.programs import Programs, finished, line_of

NOTES = """
t = db.create_table("notes", {"text": "string"})
t.add_embedding_column("emb", source="text", cache=False)
"""
WRITER = """
made = db.table("notes").insert([{"id": f"{i}", "text": f"note {i}"} for i in range(30)])
assert (made.pending, made.errors) == (0, 0), made
"""
DRAINER = """
import time
t = db.table("notes")
print("ready", flush=True)
while not t.count():
    time.sleep(0.01)
t.refresh("emb")
assert t.states("emb")["ready"] == t.count() == 30
"""


@pytest.mark.parametrize("place", ["server"])
def test_no_row_is_embedded_by_two_processes(programs: Programs) -> None:
    programs.run(NOTES)
    slow = {"TEST_EMBED_PAUSE": "0.4", "TEST_EMBED_BATCH": "10"}
    drainers = [programs.script(DRAINER) for _ in range(2)]
    assert [line_of(program) for program in drainers] == ["ready"] * 2
    writer = programs.script(WRITER, env=slow)
    for program in (writer, *drainers):
        finished(program)
    assert programs.embedded() == {f"note {i}": 1 for i in range(30)}
    # Asked for, it is embedded anew all the same.
    programs.run('db.table("notes").refresh("emb", force=True)')
    assert set(programs.embedded().values()) == {2}
