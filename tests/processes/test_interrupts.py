"""Ctrl-C and forks: programs end cleanly, and the database stays what it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.processes.programs import Programs, lines
from tests.waiting import LIMIT_S, until

TABLE = """
db.create_table("t", {"title": "string", "batch": "string"})
db.table("t").add_embedding_column("emb", source="title")
"""


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT_S)
    return process.returncode, out, err


@pytest.mark.slow
@pytest.mark.parametrize("size", [5, 400])
def test_ctrl_c_in_a_script_ends_it_and_leaves_whole_batches(programs: Programs, size: int) -> None:
    programs.run(TABLE)
    log = programs.directory / "acknowledged"
    script = programs.script(
        """
t = db.table("t")
log = open(sys.argv[3], "a")
size = int(sys.argv[2])
try:
    for i in range(1_000_000):
        t.insert([{"title": f"{i} {j}", "batch": str(i)} for j in range(size)])
        log.write(f"{i}\\n"); log.flush()
except KeyboardInterrupt:
    # The database is as usable as before.
    print(t.count() % size, t.insert({"title": "after", "batch": "after"}).inserted, flush=True)
    raise
""",
        size,
        log,
        env={"TEST_EMBED_PAUSE": "0.01", "TEST_EMBED_BATCH": "50"},
    )
    until(lambda: len(lines(log)) > 1)
    code, out, err = interrupted(script)
    assert out == "0 1\n"
    # What Python itself does with a KeyboardInterrupt nobody catches: a shell shows it as 130.
    assert code in (130, -signal.SIGINT)
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert err.count("Traceback") == 1
    assert "Task" not in err, "nothing of asyncio's complaints"
    look = """
import json
batches = {}
for row in db.table("t").select("batch").stream():
    batches[row["batch"]] = batches.get(row["batch"], 0) + 1
print(json.dumps(batches))
"""
    batches = json.loads(programs.run(look))
    assert batches.pop("after") == 1
    assert set(batches.values()) == {size}
    assert batches.keys() >= set(lines(log))


@pytest.mark.slow
def test_ctrl_c_while_waiting_for_a_job_leaves_the_job_to_others(programs: Programs) -> None:
    programs.run(TABLE)
    script = programs.script(
        'db.table("t").insert([{"title": f"text {i}"} for i in range(2_000)])',
        env={"TEST_EMBED_PAUSE": "0.05", "TEST_EMBED_BATCH": "10"},
    )
    until(lambda: len(programs.embedded()) > 30)
    code, _, err = interrupted(script)
    assert code in (130, -signal.SIGINT), err
    assert "Task" not in err
    with programs.serve() as server:
        until(
            lambda: server.get("/tables/t/columns/computed")["columns"][0]["states"],
            lambda states: states["ready"] == 2_000,
        )


@pytest.mark.slow
@pytest.mark.parametrize("during", ["rows", "embedding"])
def test_ctrl_c_in_an_import_says_so_and_keeps_what_landed(programs: Programs, during: str) -> None:
    file = programs.directory / "t.jsonl"
    count = 60_000 if during == "rows" else 1_500
    file.write_text("".join(json.dumps({"id": f"{i:05}", "title": f"text {i}"}) + "\n" for i in range(count)))
    embed = [] if during == "rows" else ["--embed", "title"]
    slow = {"TEST_EMBED_PAUSE": "0.05", "TEST_EMBED_BATCH": "10"}
    loading = programs.command("import", "t", file, *embed, env=slow)
    if during == "rows":
        look = "print(db.table('t').count() if db.tables() else 0)"
        until(lambda: programs.run(look), lambda n: int(n) > 0)
    else:
        until(lambda: len(programs.embedded()) > 30)
    code, out, err = interrupted(loading)
    if code == 0:
        assert during == "rows", "the machine was faster than the signal"
        return
    assert (code, out) == (130, "")
    assert "interrupted" in err.lower()
    assert "Traceback" not in err
    kept = int(programs.run('print(db.table("t").count())'))
    assert kept % 1_000 == 0 or kept == count
    again = json.loads(programs.vectable("import", "t", file, "--on-conflict", "skip", "--json"))
    assert again["inserted"] == count - kept
    if embed:
        assert again["states"]["title_embedding"]["ready"] == count


@pytest.mark.slow
def test_ctrl_c_ends_a_server_in_the_middle_of_work(programs: Programs) -> None:
    programs.run(TABLE)
    with programs.serve(env={"TEST_EMBED_PAUSE": "0.05", "TEST_EMBED_BATCH": "10"}) as server:
        rows = [{"title": f"text {i}"} for i in range(2_000)]
        job = server.post("/t/rows", {"rows": rows}, 201)["job"]
        until(lambda: len(programs.embedded()) > 30)
        code, _, err = interrupted(server.process)
        assert code == 0
        assert "Traceback" not in err
        assert "Task" not in err
    with programs.serve() as server:
        assert until(lambda: server.get(f"/jobs/{job}"), lambda j: j["status"] == "done")["done"] >= 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
def test_a_handle_used_after_a_fork_says_what_to_do(programs: Programs) -> None:
    programs.run(TABLE)
    out = programs.run_apart(
        """
import multiprocessing, warnings
warnings.simplefilter("ignore", DeprecationWarning)
t = db.table("t")
t.insert([{"id": "a", "title": "one"}])
assert len(t.similar("one", on="emb").limit(1).collect()) == 1

def child(queue):
    said = []
    for attempt in (
        t.count, lambda: t.insert({"title": "x"}), lambda: t.similar([0.5] * 32, on="emb").collect(),
        db.tables, db.close, lambda: t.select("id").collect(), lambda: list(t.stream()),
    ):
        try:
            attempt()
            said.append("no error")
        except vectable.VectableError as error:
            said.append(f"{error.code}: {error.detail} ({error.hint})")
    # A connection of its own works.
    with vectable.connect(sys.argv[1]) as own:
        said.append(own.table("t").insert({"id": f"child", "title": "two"}).inserted)
    queue.put(said)

context = multiprocessing.get_context("fork")
queue = context.Queue()
process = context.Process(target=child, args=(queue,))
process.start()
said = queue.get(timeout=60)
process.join(60)
assert process.exitcode == 0, process.exitcode
for line in said[:-1]:
    print(line)
assert said[-1] == 1
assert t.count() == 2
assert t.insert({"title": "parent"}).inserted == 1
"""
    )
    refusals = out.splitlines()
    assert len(refusals) == 7
    for line in refusals:
        assert "fork" in line, out
        assert "spawn" in line
