"""Backups of a database that is written to, brought back elsewhere and under programs that have it open."""

from __future__ import annotations

import json
import sqlite3

import pytest

from tests.processes.programs import Programs, finished, line_of, lines
from tests.waiting import until

TABLE = """
t = db.create_table("t", {"title": "string", "batch": "string"})
t.add_embedding_column("emb", source="title")
t.insert([{"id": f"{i:04}", "title": f"text {i} of {i % 7}", "batch": "first"} for i in range(300)])
"""
INSERTER = """
acknowledged = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
t = db.table("t")
for i in range(1_000_000):
    batch = f"{os.getpid()}-{i}"
    t.insert([{"title": f"{batch} {j}", "batch": batch} for j in range(5)])
    os.write(acknowledged, f"{batch}\\n".encode())
"""
LOOK = """
import json
t = db.table("t")
batches = {}
for row in t.select("batch").stream():
    batches[row["batch"]] = batches.get(row["batch"], 0) + 1
first = t.where(t.batch == "first").similar("text 17 of 3", on="emb").limit(20).collect()
print(json.dumps({
    "batches": batches, "states": t.states("emb"), "hits": [[r["id"], s] for r, s in zip(first, first.scores)]
}))
"""


@pytest.mark.slow
def test_a_backup_of_a_busy_database_is_one_moment(programs: Programs) -> None:
    programs.run(TABLE)
    log = programs.directory / "acknowledged"
    writers = [programs.script(INSERTER, log) for _ in range(2)]
    until(lambda: len(lines(log)) > 10)
    before = set(lines(log))
    programs.vectable("backup", "copy")
    for writer in writers:
        writer.kill()
        writer.communicate()
    there = json.loads(programs.run(LOOK))
    elsewhere = Programs(programs.directory / "elsewhere")
    elsewhere.directory.mkdir()
    finished(elsewhere.command("restore", programs.directory / "copy"))
    file = sqlite3.connect(elsewhere.db / "vectable.db")
    assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    file.close()
    found = json.loads(elsewhere.run(LOOK))
    assert found["batches"].pop("first") == 300
    assert set(found["batches"].values()) == {5}, "whole batches"
    assert before <= found["batches"].keys() <= there["batches"].keys()
    assert found["hits"] == there["hits"]
    # Nothing is embedded again that was embedded when the backup was made.
    elsewhere.run(
        """
t = db.table("t")
t.upsert([{"id": f"{i:04}", "title": f"text {i} of {i % 7}", "batch": "again"} for i in range(300)])
t.add_embedding_column("second", template="{title}")
"""
    )
    assert [text for text in elsewhere.embedded() if text.startswith("text ")] == []
    assert len(elsewhere.embedded()) <= 10, "at most the batches under way at that moment"


SESSION = """
import json
t = db.table("t")
for line in sys.stdin:
    try:
        print(json.dumps(eval(line)), flush=True)
    except vectable.VectableError as error:
        print(json.dumps({"code": error.code, "detail": error.detail}), flush=True)
"""


@pytest.mark.slow
def test_programs_that_have_it_open_notice_a_restore(programs: Programs) -> None:
    """Their marks, their rows in memory and what they know of definitions are from before it."""
    programs.run(TABLE)
    session = programs.script(SESSION)
    assert session.stdin is not None

    def ask(expression: str) -> object:
        assert session.stdin is not None
        session.stdin.write(expression + "\n")
        session.stdin.flush()
        return json.loads(line_of(session))

    nearest = '[r["id"] for r in t.similar("text 17 of 3", on="emb").limit(3).collect()]'
    with programs.serve() as server:
        search = {"query": "text 17 of 3", "column": "emb", "limit": 3, "select": ["id"]}

        def served() -> list[str]:
            return [r["data"]["id"] for r in server.post("/t/search/similarity", search)["results"]]

        first = ask(nearest)
        assert first == served()
        programs.vectable("backup", "copy")
        # Both write, so both have marks; both add a column, so the next generation comes twice.
        assert ask('t.add_column("mine", "int")') is None
        assert ask('t.insert({"id": "zz", "title": "text 17 of 3"}).inserted') == 1
        assert ask("t.delete(\"id <= '0010' and id != '0003'\")") == 10
        row = {"id": "zy", "title": "text 17 of 3", "mine": 3}
        assert server.post("/t/rows", {"rows": [row]}, 201)["inserted"] == 1
        assert ask(nearest) == served() == ["0017", "zy", "zz"]
        page = server.post("/t/query", {"similar": {"column": "emb", "to": "text 5"}, "limit": 5})
        programs.vectable("restore", "copy", "--overwrite")

        assert ask("t.count()") == 300
        assert ask(nearest) == served() == first
        assert server.rows("t", select=["id"], where={"sql": "id = 'zy'"}) == []
        assert server.get("/tables/t/rows/0005")["id"] == "0005"
        old = {"similar": {"column": "emb", "to": "text 5"}, "limit": 5, "cursor": page["next_cursor"]}
        assert server.post("/t/query", old, 409)["code"] == "cursor-expired"
        # The same generation as before, of another definition.
        assert ask('t.add_column("other", "string")') is None
        refused = server.post("/t/rows", {"rows": [{"id": "x", "mine": 1}]}, 400)
        assert refused["code"] == "invalid-row"
        rows = [{"id": "x", "title": "text 17 of 3", "other": "there"}]
        assert server.post("/t/rows", {"rows": rows}, 201)["inserted"] == 1
        assert ask('t.get("x")["other"]') == "there"
        assert ask('t.select("id").where("other = \'there\'").collect()[0]["id"]') == "x"
        assert ask('t.update("id = \'x\'", {"other": "changed"})') == 1
        assert ask(nearest) == served()
        assert "x" in served()
        where = {"sql": "other = ?", "params": ["changed"]}
        assert server.rows("t", select=["id", "other"], where=where) == [{"id": "x", "other": "changed"}]


@pytest.mark.slow
def test_a_restore_in_the_middle_of_a_job_stops_it_and_work_goes_on(programs: Programs) -> None:
    programs.run(TABLE)
    programs.vectable("backup", "copy")
    with programs.serve(env={"TEST_EMBED_PAUSE": "0.03", "TEST_EMBED_BATCH": "10"}) as server:
        rows = [{"title": f"later {i}", "batch": "later"} for i in range(700)]
        server.post("/t/rows", {"rows": rows}, 201)
        until(lambda: sum(text.startswith("later") for text in programs.embedded()) > 50)
        programs.vectable("restore", "copy", "--overwrite")
        assert server.post("/t/query/count", {})["count"] == 300
        more = [{"title": f"text {i}", "batch": "more"} for i in range(150)]
        server.post("/t/rows", {"rows": more}, 201)
        until(
            lambda: server.get("/tables/t/columns/computed")["columns"][0]["states"],
            lambda states: states["ready"] == 450 and states["new"] == 0,
        )
        statuses = until(
            lambda: {j["status"] for j in server.get("/jobs")["jobs"]},
            lambda found: not found & {"queued", "running"},
        )
        assert "error" not in statuses
