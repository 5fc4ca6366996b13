"""Several servers on one PostgreSQL database behave as one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.processes.programs import Programs, Server
from tests.waiting import until


@pytest.fixture
def place() -> str:
    return "server"


@pytest.mark.slow
def test_a_change_at_one_is_there_for_the_next_request_at_the_other(programs: Programs) -> None:
    """No second passes: nothing is remembered that the other may have changed."""
    programs.run('db.create_table("t", {"title": "string"}).insert([{"id": "a", "title": "first"}])')
    with programs.serve() as one, programs.serve() as two:
        assert two.rows("t") == [{"id": "a", "title": "first"}]
        for turn in range(5):
            name = f"column_{turn}"
            one.client.patch("/api/v1/tables/t", json={"add_columns": {name: "int"}}).raise_for_status()
            assert name in two.get("/tables/t")["columns"]
            two.post("/t/rows", {"rows": [{"title": "next", name: turn}]}, 201)
            assert len(one.rows("t", where={"column": name, "operator": "=", "value": turn})) == 1
            body = {"name": f"by_{turn}", "source_column": "title", "model": "hashing/32"}
            two.post("/t/columns/computed/embedding", body, 201)
            hits = one.post("/t/search/similarity", {"query": "next", "column": f"by_{turn}", "limit": 1})
            assert hits["coverage"] == {"rows": turn + 2, "searchable": turn + 2}


@pytest.mark.slow
def test_two_servers_embed_no_row_twice(programs: Programs) -> None:
    """Small writes, embedded within the request, and large ones, embedded by a job, at both at the same time;
    some texts are written at both."""
    programs.run('db.create_table("t", {"title": "string"}).add_embedding_column("emb", source="title")')
    slow = {"TEST_EMBED_PAUSE": "0.05", "TEST_EMBED_BATCH": "25"}
    with ExitStack() as stack:
        servers = [stack.enter_context(programs.serve(env=slow)) for _ in range(2)]

        def write(server: Server, name: str) -> None:
            for turn in range(4):
                bulk = [{"title": f"{name} bulk {turn} {i}"} for i in range(150)]
                server.post("/t/rows", {"rows": bulk}, 201)
                for i in range(5):
                    few = [{"title": f"{name} few {turn} {i}"}, {"title": f"both {turn} {i}"}]
                    server.post("/t/rows", {"rows": few}, 201)

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(write, s, f"{n}{k}") for n, s in enumerate(servers) for k in "xy"]:
                done.result()
        rows = 4 * 4 * (150 + 10)
        for server in servers:
            until(
                lambda server=server: server.get("/tables/t/columns/computed")["columns"][0]["states"],
                lambda states: states["ready"] == rows,
            )
    embedded = programs.embedded()
    assert len(embedded) == 4 * 4 * (150 + 5) + 4 * 5
    assert {text: n for text, n in embedded.items() if n > 1} == {}
