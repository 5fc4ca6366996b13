"""Scripts, a server and the command line at work on one database at once."""

from __future__ import annotations

import json

import pytest

from tests.processes.programs import Programs, finished, line_of

PAPERS = """
db.create_table("papers", {"title": "string", "who": "string", "n": {"type": "int", "default": 0}})
db.table("papers").add_embedding_column("emb", source="title")
"""
WRITER = """
who, rounds = sys.argv[2], int(sys.argv[3])
t = db.table("papers")
for i in range(rounds):
    ids = [f"{who}-{i}-{j}" for j in range(4)]
    made = t.insert([{"id": x, "title": f"{who} title {x}", "who": who} for x in ids])
    assert (made.inserted, made.pending, made.errors) == (4, 0, 0), made
    assert t.upsert({"id": ids[1], "title": f"{who} again {ids[1]}", "who": who, "n": 1}).replaced == 1
    assert t.update(t.id == ids[2], {"n": 2}) == 1
    assert t.delete(t.id == ids[3]) == 1
    # A row everybody changes, and one everybody deletes and inserts.
    t.update(t.id == "shared", {"who": who})
    t.upsert({"id": "fought-over", "title": f"{who} {i}", "who": who})
    t.delete(t.id == "fought-over")
    assert t.count(t.who == who) >= 3 * (i + 1)
    hits = t.where(t.who == who).similar(f"{who} title {ids[0]}", on="emb").limit(3).collect()
    assert hits[0]["id"] == ids[0] or len(hits) == 3, hits
print("done", flush=True)
sys.stdin.readline()
print(json.dumps(sorted(r["id"] for r in t.select("id").limit(10_000).collect())))
"""


@pytest.mark.parametrize("place", ["directory", "server"])
def test_everybody_writes_and_nothing_is_lost_or_doubled(programs: Programs) -> None:
    programs.run(PAPERS + 'db.table("papers").insert({"id": "shared", "title": "shared"})')
    file = programs.directory / "papers.jsonl"
    imported = [{"id": f"file-{i}", "title": f"file title {i}", "who": "file"} for i in range(1_500)]
    file.write_text("".join(json.dumps(row) + "\n" for row in imported))
    with programs.serve() as server:
        rounds = 12
        writers = [programs.script("import json" + WRITER, who, rounds) for who in "ab"]
        loading = programs.command("import", "papers", file, "--json")
        for i in range(rounds):
            ids = [f"http-{i}-{j}" for j in range(3)]
            rows = [{"id": x, "title": f"http title {x}", "who": "http"} for x in ids]
            made = server.post("/papers/rows", {"rows": rows}, 201)
            assert (made["inserted"], made["pending"]) == (3, 0)
            where = {"column": "id", "operator": "=", "value": ids[1]}
            changed = server.client.patch(
                "/api/v1/tables/papers/rows", json={"where": where, "values": {"n": 5}}
            )
            assert changed.json() == {"updated": 1}
            where["value"] = ids[2]
            gone = server.client.request(
                "DELETE", "/api/v1/tables/papers/rows", json={"where": where, "all": False}
            )
            assert gone.json() == {"deleted": 1}
        assert json.loads(finished(loading))["inserted"] == 1_500
        assert [line_of(w) for w in writers] == ["done", "done"]
        expected = {"shared", *(row["id"] for row in imported)}
        expected |= {f"{who}-{i}-{j}" for who in "ab" for i in range(rounds) for j in range(3)}
        expected |= {f"http-{i}-{j}" for i in range(rounds) for j in range(2)}
        seen = [json.loads(w.communicate("go\n")[0]) for w in writers]
        seen.append(sorted(row["id"] for row in server.rows("papers", select=["id"])))
        for ids_seen in seen:
            assert ids_seen == sorted(expected)
        [column] = server.get("/tables/papers/columns/computed")["columns"]
        assert column["states"]["ready"] == len(expected)
        [table] = json.loads(programs.vectable("status", "--json"))["tables"]
        assert table["rows"] == len(expected)
        # Everything is searchable everywhere: the server held older rows in memory all the while.
        for id_, title in [("file-77", "file title 77"), ("b-3-0", "b title b-3-0")]:
            found = server.post(
                "/papers/search/similarity",
                {"query": title, "column": "emb", "limit": 1, "select": ["id"], "include_score": True},
            )
            assert found["results"][0]["data"] == {"id": id_}
            assert found["coverage"] == {"rows": len(expected), "searchable": len(expected)}
    # Each text belongs to one program; another's job may take up a cell just as its writer does.
    embedded = programs.embedded()
    assert max(embedded.values()) <= 2
    assert sum(embedded.values()) - len(embedded) <= len(embedded) // 20


SECOND = """
import json
handle = {}
for line in sys.stdin:
    try:
        print(json.dumps(eval(line)), flush=True)
    except vectable.VectableError as error:
        print(json.dumps({"code": error.code}), flush=True)
"""


def test_what_one_program_wrote_the_next_query_of_another_sees(programs: Programs) -> None:
    """Two sessions and a server take turns: each asks right after another was answered."""
    other = programs.script(SECOND)
    third = programs.script(SECOND)

    def ask(who: object, expression: str) -> object:
        process = {1: other, 2: third}[who]  # type: ignore[index]
        assert process.stdin is not None
        process.stdin.write(expression.replace("\n", " ") + "\n")
        process.stdin.flush()
        return json.loads(line_of(process))

    with programs.serve() as server:
        ask(1, 'db.create_table("t", {"title": "string", "n": "int"}).full_name')
        assert server.get("/tables/t")["name"] == "t"
        ask(2, 'db.table("t").add_embedding_column("emb", source="title").states')
        for i in range(20):
            rows = f'[{{"id": "{i}-" + str(j), "title": "word{i} w" + str(j), "n": {i}}} for j in range(3)]'
            assert ask(1, f'db.table("t").insert({rows}).inserted') == 3
            assert ask(2, f'db.table("t").count("n = {i}")') == 3
            search = {
                "query": f"word{i} w1",
                "column": "emb",
                "limit": 2,
                "select": ["id"],
                "filters": {"column": "n", "operator": "=", "value": i},
            }
            hits = server.post("/t/search/similarity", search)["results"]
            assert hits[0]["data"]["id"] == f"{i}-1"
            where = {"column": "id", "operator": "=", "value": f"{i}-1"}
            server.client.request("DELETE", "/api/v1/tables/t/rows", json={"where": where})
            query = f'db.table("t").where("n = {i}").similar("word{i} w1", on="emb").limit(5).collect()'
            assert ask(1, f'sorted(r["id"] for r in {query})') == [f"{i}-0", f"{i}-2"]
        # Schema changes are there at once, too, in handles made before them.
        ask(1, 'handle.setdefault("t", db.table("t")).count()')
        server.client.patch("/api/v1/tables/t", json={"add_columns": {"lang": "string"}})
        assert ask(1, 'handle["t"].update("n = 3", {"lang": "Go"})') == 2
        assert ask(2, 'db.table("t").count("lang = \'Go\'")') == 2
        ask(2, 'db.table("t").drop_column("n")')
        assert server.client.post("/api/v1/tables/t/query", json={"select": ["n"]}).status_code == 400
        assert ask(1, 'handle["t"].select("n").collect().rows') == {"code": "unknown-column"}
        assert ask(1, 'handle["t"].insert({"id": "new", "title": "fresh", "lang": "C"}).inserted') == 1
        ask(1, 'db.rename_table("t", "u").full_name')
        assert server.client.get("/api/v1/tables/t").status_code == 404
        assert server.rows("u", select=["lang"], where={"sql": "id = 'new'"}) == [{"lang": "C"}]
        assert ask(2, 'db.table("t").full_name') == {"code": "table-not-found"}
        assert ask(2, 'db.table("u").similar("fresh", on="emb").limit(1).collect()[0]["id"]') == "new"
        assert server.client.delete("/api/v1/tables/u").status_code in (200, 204)
        assert ask(2, "[t.full_name for t in db.tables()]") == []
        assert ask(1, 'db.table("u").full_name') == {"code": "table-not-found"}
        ask(1, 'db.create_table("u", {"other": "int"}).full_name')
        assert server.rows("u") == []


CHURN = """
t = db.table("t")
for i in range(15):
    t.add_column("extra", "string", default="x")
    t.rename_column("extra", f"extra{i}")
    t.add_embedding_column("second", source="title")
    t.create_index("n", "btree", name="by_n")
    t.drop_column("second")
    t.drop_index("by_n")
    t.drop_column(f"extra{i}")
"""
STEADY = """
who, until = sys.argv[2], sys.argv[3]
t = db.table("t")
i = 0
while i < 5 or not os.path.exists(until):
    i += 1
    ids = [f"{who}-{i}-{j}" for j in range(3)]
    assert t.insert([{"id": x, "title": f"{who} word {x}"} for x in ids]).inserted == 3
    assert t.count(t.id >= f"{who}-") >= 3
    assert t.update(t.id == ids[0], {"n": i}) == 1
    assert t.delete(t.id == ids[2]) == 1
    assert t.get(ids[0])["n"] == i
    hits = t.where(t.id == ids[1]).similar(f"{who} word {ids[1]}", on="emb").limit(2).collect()
    assert [h["id"] for h in hits] == [ids[1]]
    assert t.similar([0.5] * 32, on="emb").limit(1).collect()
    rows = list(t.where(t.n == i).select("id", "n").stream())
    assert any(r["id"] == ids[0] for r in rows)
    t.insert([{"title": f"job {who} {i} {j}", "id": f"job-{who}-{i}-{j}"} for j in range(105)])
print(i)
"""


@pytest.mark.slow
def test_definitions_change_under_readers_and_writers_that_never_notice(programs: Programs) -> None:
    programs.run(
        """
t = db.create_table("t", {"title": "string", "n": "int"})
t.add_embedding_column("emb", source="title")
t.insert([{"id": f"first-{i}", "title": f"first {i}"} for i in range(50)])
"""
    )
    end = programs.directory / "end"
    workers = [programs.script(STEADY, who, end) for who in "ab"]
    with programs.serve() as server:
        churn = programs.script(CHURN)
        while churn.poll() is None:
            assert server.post("/t/query/count", {})["count"] >= 50
            found = server.post("/t/search/similarity", {"query": "first 7", "column": "emb", "limit": 5})
            assert len(found["results"]) == 5
            assert server.post("/t/rows", {"rows": [{"title": "http"}]}, 201)["inserted"] == 1
        finished(churn)
        end.touch()
        rounds = [int(finished(w)) for w in workers]
        http = server.post("/t/query/count", {"where": {"sql": "title = 'http'"}})["count"]
        assert server.post("/t/query/count", {})["count"] == 50 + sum(rounds) * (2 + 105) + http
        assert list(server.get("/tables/t")["columns"]) == ["id", "title", "n", "emb"]
        states = server.get("/tables/t/columns/computed")["columns"][0]["states"]
        assert states["ready"] == 50 + sum(rounds) * (2 + 105) + http
