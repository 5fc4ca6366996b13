"""Long work goes on when the process that did it is gone, in whichever process comes next."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.processes.programs import Programs, kill
from tests.waiting import until

TABLE = """
db.create_table("t", {"title": "string"})
db.table("t").add_embedding_column("emb", source="title")
"""
ROWS = [{"id": f"{i:04}", "title": f"text {i}"} for i in range(600)]
SLOW = {"TEST_EMBED_PAUSE": "0.03", "TEST_EMBED_BATCH": "10"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "next_one"), [("directory", "server"), ("directory", "writer"), ("server", "server")]
)
def test_a_job_of_a_killed_server_is_taken_over(programs: Programs, next_one: str) -> None:
    programs.run(TABLE)
    with programs.serve(env=SLOW) as server:
        job = server.post("/t/rows", {"rows": ROWS}, 201)["job"]
        until(lambda: len(programs.embedded()) > 150)
        seen = server.get(f"/jobs/{job}")
        assert seen["status"] == "running"
        kill(server.process)
    if next_one == "server":
        with programs.serve() as second:
            ended = until(lambda: second.get(f"/jobs/{job}"), lambda j: j["status"] == "done")
            assert len(second.get("/jobs")["jobs"]) == 1
            [column] = second.get("/tables/t/columns/computed")["columns"]
            assert column["states"]["ready"] == 600
    else:
        script = """
import json
from concurrent.futures import ThreadPoolExecutor
t = db.table("t")
t.insert({"id": "next", "title": "next"})
job = db.wait(sys.argv[2])
assert t.states("emb")["ready"] == 601
assert len(db.jobs()) == 1
print(job.model_dump_json())
"""
        ended = json.loads(programs.run(script, job))
        assert ended["status"] == "done"
    assert ended["finished_at"]
    assert ended.get("error") is None
    repeated = sum(programs.embedded().values()) - len(programs.embedded())
    assert repeated <= 512, "at most what is embedded between two writes to the cache"


@pytest.mark.slow
def test_a_running_server_drains_what_a_killed_script_left(programs: Programs) -> None:
    """The server has been there all along, and nobody writes through it."""
    programs.run(TABLE)
    with programs.serve() as server:
        code = 'print("going", flush=True)\ndb.table("t").insert([{"title": f"text {i}"} for i in range(50)])'
        script = programs.script(code, env={"TEST_EMBED_PAUSE": "60"})
        until(lambda: server.post("/t/query/count", {})["count"] == 50)
        kill(script)
        states = until(
            lambda: server.get("/tables/t/columns/computed")["columns"][0]["states"],
            lambda states: states["ready"] == 50,
        )
        assert states["new"] == 0


@pytest.mark.slow
def test_a_writer_that_goes_on_drains_what_a_killed_one_left(programs: Programs) -> None:
    programs.run(TABLE)
    writer = programs.script(
        """
import time
t = db.table("t")
t.insert({"title": "first"})
print("going", flush=True)
sys.stdin.readline()
deadline = time.monotonic() + 90
n = 0
while t.states("emb")["new"] and time.monotonic() < deadline:
    n += 1
    t.insert({"title": f"one more {n}"})
    time.sleep(0.2)
print(t.states("emb")["new"])
"""
    )
    code = 'print("going", flush=True)\ndb.table("t").insert([{"title": f"text {i}"} for i in range(50)])'
    script = programs.script(code, env={"TEST_EMBED_PAUSE": "60"})
    count = 'print(db.table("t").count())'
    until(lambda: programs.run(count), lambda n: int(n) == 51)
    kill(script)
    assert writer.communicate("go\n")[0] == "going\n0\n"


@pytest.mark.slow
def test_a_definition_that_changes_while_a_job_runs_stops_nothing(programs: Programs) -> None:
    programs.run(TABLE)
    with programs.serve(env=SLOW) as server:
        job = server.post("/t/rows", {"rows": ROWS}, 201)["job"]
        until(lambda: len(programs.embedded()) > 100)
        programs.run('db.table("t").add_column("lang", "string")')
        programs.run('db.table("t").rename("u")')
        assert until(lambda: server.get(f"/jobs/{job}"), lambda j: "finished_at" in j)["status"] == "done"
        [column] = server.get("/tables/u/columns/computed")["columns"]
        assert column["states"]["ready"] == 600


@pytest.mark.slow
def test_a_table_dropped_while_a_job_runs_ends_it(programs: Programs) -> None:
    programs.run(TABLE)
    with programs.serve(env=SLOW) as server:
        job = server.post("/t/rows", {"rows": ROWS}, 201)["job"]
        until(lambda: len(programs.embedded()) > 100)
        programs.run('db.drop_table("t")')
        ended = until(lambda: server.get(f"/jobs/{job}"), lambda j: "finished_at" in j)
        assert ended["status"] in ("done", "cancelled")


@pytest.mark.slow
def test_a_request_repeated_after_the_server_was_killed_acts_once(programs: Programs) -> None:
    """The rows were written, the answer never came: the next server answers to the same Idempotency-Key."""
    programs.run(TABLE)
    body = {"rows": [{"title": f"text {i}"} for i in range(20)]}
    headers = {"Idempotency-Key": "a-request-of-mine"}
    with programs.serve(env={"TEST_EMBED_PAUSE": "60"}) as server, ThreadPoolExecutor(1) as pool:
        cut_off = pool.submit(server.client.post, "/api/v1/tables/t/rows", json=body, headers=headers)
        until(lambda: programs.run('print(db.table("t").count())'), lambda n: int(n) == 20)
        kill(server.process)
        with pytest.raises(httpx.TransportError):
            cut_off.result()
    with programs.serve() as server:
        for _ in range(2):
            answer = server.client.post("/api/v1/tables/t/rows", json=body, headers=headers)
            assert answer.status_code == 201, answer.text
            assert len(answer.json()["ids"]) == 20
        assert server.post("/t/query/count", {})["count"] == 20
        until(
            lambda: server.get("/tables/t/columns/computed")["columns"][0]["states"],
            lambda states: states["ready"] == 20,
        )


@pytest.mark.slow
def test_status_tells_jobs_somebody_works_on_from_those_that_wait(programs: Programs) -> None:
    programs.run(TABLE)
    code = """
t = db.table("t")
t.insert([{"title": f"text {i}"} for i in range(600)])
print("going", flush=True)
sys.stdin.readline()
"""
    script = programs.script(code, env=SLOW)
    status = lambda: json.loads(programs.vectable("status", "--json"))["jobs"]  # noqa: E731
    working = until(status, lambda jobs: any(job["done"] for job in jobs))
    assert [job["status"] for job in working] == ["running"]
    kill(script)
    [left] = status()
    assert (left["status"], left["rate"], left["eta_s"]) == ("queued", None, None)
    assert 0 < left["done"] < left["total"] == 600
