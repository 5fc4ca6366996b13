"""One database object used by many threads and tasks at once, and closed under them: nothing hangs."""

from __future__ import annotations

import pytest

from tests.processes.programs import Programs

TABLE = """
db.create_table("t", {"title": "string", "n": {"type": "int", "default": 0}})
t = db.table("t")
t.add_embedding_column("emb", source="title")
t.insert([{"id": f"{i:04}", "title": f"text {i}"} for i in range(200)])
"""


@pytest.mark.slow
def test_many_threads_share_one_database(programs: Programs) -> None:
    programs.run_apart(
        TABLE
        + """
import threading
failures, done = [], []

def work(who):
    try:
        mine = db.table("t")
        for i in range(8):
            id_ = f"w{who}-{i}"
            assert mine.insert({"id": id_, "title": f"word {who} {i}"}).pending == 0
            assert mine.get(id_)["title"] == f"word {who} {i}"
            hits = mine.where(mine.id == id_).similar(f"word {who} {i}", on="emb").limit(3).collect()
            assert [h["id"] for h in hits] == [id_]
            assert len(mine.similar([0.1 * who + 0.5] * 32, on="emb").limit(20).collect()) == 20
            assert mine.count(mine.id == id_) == 1
            mine.update(mine.id == "0000", {"n": who})
            assert mine.update(mine.id == id_, {"n": i}) == 1
            mine.upsert({"id": "everybody", "title": f"word {i}"})
            assert sum(1 for _ in mine.where(mine.n == i).stream()) >= 1
        done.append(who)
    except BaseException as error:
        failures.append(f"{who}: {type(error).__name__}: {error}")

threads = [threading.Thread(target=work, args=(who,)) for who in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join(90)
assert not failures, failures
assert len(done) == 12
assert t.count() == 200 + 12 * 8 + 1
assert t.states("emb")["ready"] == t.count()
"""
    )


@pytest.mark.slow
def test_two_hundred_operations_at_once_on_one_loop(programs: Programs) -> None:
    programs.run_apart(
        TABLE
        + """
async def main():
    async with await vectable.connect_async(sys.argv[1]) as other:
        t = await other.table("t")

        async def one(i):
            match i % 10:
                case 0: return await t.insert({"id": f"new{i}", "title": f"new {i}"})
                case 1: return await t.insert([{"title": f"job {i} {j}"} for j in range(120)])
                case 2: return await t.similar(f"text {i}", on="emb").limit(5).collect()
                case 3: return await t.update(t.id == "0001", {"n": i})
                case 4: return await t.update(t.n >= 0, {"n": i})
                case 5: return await t.count(t.n >= 0)
                case 6: return await t.upsert({"id": "everybody", "title": f"word {i}"})
                case 7: return [row async for row in t.where(t.id < "0100").stream()]
                case 8: return await t.delete(t.id == f"0{i:03}")
                case _: return await t.describe(), await other.status(), await t.states("emb")

        found = await asyncio.wait_for(asyncio.gather(*(one(i) for i in range(200))), 90)
        assert all(len(hits) == 5 for hits in found[2::10])
        assert found[3::10] == [1] * 20
        assert await t.count() == 200 + 20 + 20 * 120 + 1 - 20
        states = await t.states("emb")
        assert states["ready"] == await t.count(), states
        one_value = {row["n"] async for row in t.where(t.id == "0001").stream()}
        assert len(one_value) == 1

asyncio.run(main())
"""
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", ["threads", "tasks"])
def test_closing_while_operations_run_ends_each_of_them(programs: Programs, how: str) -> None:
    """Each finishes, or says that the database is closed; what was acknowledged is there."""
    threads = """
import threading, time
ends, kept = [], []

def work(who):
    i = 0
    try:
        while True:
            i += 1
            made = t.insert({"id": f"w{who}-{i}", "title": f"w {who} {i}"})
            kept.append(f"w{who}-{i}")
            t.similar(f"text {i}", on="emb").limit(3).collect()
            t.similar([0.5] * 32, on="emb").limit(3).collect()
            t.update(t.id == f"w{who}-{i}", {"n": 1})
            list(t.where(t.n == 1).stream())
            t.insert([{"title": f"j {who} {i} {j}"} for j in range(110)], wait=False)
    except BaseException as error:
        ends.append(error)

threads = [threading.Thread(target=work, args=(who,)) for who in range(8)]
for thread in threads: thread.start()
while len(kept) < 10: time.sleep(0.01)
db.close()
for thread in threads: thread.join(60)
assert len(ends) == 8, ends
"""
    tasks = """
ends, kept = [], []

async def main():
    other = await vectable.connect_async(sys.argv[1])
    t = await other.table("t")

    async def work(who):
        i = 0
        while True:
            i += 1
            await t.insert({"id": f"w{who}-{i}", "title": f"w {who} {i}"})
            kept.append(f"w{who}-{i}")
            await t.similar(f"text {i}", on="emb").limit(3).collect()
            await t.update(t.id == f"w{who}-{i}", {"n": 1})
            async for row in t.where(t.n == 1).stream(): pass
            await t.insert([{"title": f"j {who} {i} {j}"} for j in range(110)], wait=False)

    workers = [asyncio.create_task(work(who)) for who in range(8)]
    while len(kept) < 10: await asyncio.sleep(0.01)
    await other.close()
    ends.extend(await asyncio.wait_for(asyncio.gather(*workers, return_exceptions=True), 60))

asyncio.run(main())
"""
    check = """
for end in ends:
    assert isinstance(end, vectable.VectableError), repr(end)
    assert "closed" in str(end), str(end)
with vectable.connect(sys.argv[1]) as again:
    ids = {row["id"] for row in again.table("t").select("id").stream()}
    assert ids.issuperset(kept)
"""
    programs.run_apart(TABLE + (threads if how == "threads" else tasks) + check)


@pytest.mark.slow
def test_a_program_that_ends_without_closing_ends(programs: Programs) -> None:
    """A job is under way, threads wait for it, and nobody closes anything."""
    code = """
import threading
t.insert([{"title": f"more {i}"} for i in range(500)], wait=False)
def wait():
    try:
        db.wait(db.jobs()[0].id)
    except vectable.VectableError as error:
        assert "closed" in str(error)

threading.Thread(target=wait, daemon=True).start()
print("end", flush=True)
"""
    slow = {"TEST_EMBED_PAUSE": "0.05", "TEST_EMBED_BATCH": "10"}
    made = "t = db.create_table('t', {'title': 'string'}); t.add_embedding_column('emb', source='title')"
    assert programs.run_apart(made + code, env=slow) == "end\n"
    programs.run_apart(
        """
import time
t = db.table("t")
t.insert({"title": "next"})
for job in db.jobs():
    assert db.wait(job.id).status == "done"
assert t.states("emb")["ready"] == 501
"""
    )
