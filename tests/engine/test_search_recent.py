"""Rows of hits that are held where to fetch them is a round trip: never others than those in the table."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vectable
from vectable.backends.postgres import PostgresBackend
from vectable.blocking import Database, Table
from vectable.core.mark import Mark
from vectable.engine.resident.recent import RecentRows
from vectable.engine.search.similar import SimilarSearch

ROWS = 200
COLUMNS = {"id": "int", "title": "string", "about": "json", "v": {"type": "vector", "dimensions": 8}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each statement of a search asked for."""
    counts: list[int] = []
    get = PostgresBackend.get_unchanged

    async def counted(
        self: PostgresBackend, table: Any, since: Any, keys: Sequence[bytes], *rest: Any
    ) -> Any:
        if since is not None:
            counts.append(len(keys))
        return await get(self, table, since, keys, *rest)

    monkeypatch.setattr(PostgresBackend, "get_unchanged", counted)
    return counts


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    with vectable.connect(postgres_url) as database:
        filled(database)
        yield database


def vectors() -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).standard_normal((ROWS, 8)).astype(np.float32)


def filled(database: Database) -> Table:
    table = database.create_table("t", COLUMNS)
    table.insert(
        [{"id": i, "title": f"row {i}", "about": {"n": [i]}, "v": v} for i, v in enumerate(vectors())]
    )
    return table


def found(table: Table, at: int = 0, limit: int = 5, select: Sequence[str] = ()) -> list[dict[str, Any]]:
    query = table.similar(vectors()[at], on="v").limit(limit)
    return [dict(row) for row in (query.select(*select) if select else query).collect()]


def settled(table: Table, **options: Any) -> list[dict[str, Any]]:
    """What is found, by the view that the search after a change opens, and by what is held from then on."""
    first, *more = [found(table, **options) for _ in range(4)]
    assert more == [first] * 3
    return first


def test_a_row_is_fetched_once_while_it_stays_as_it_is(database: Database, asked: list[int]) -> None:
    table = database.table("t")
    first = settled(table)
    asked.clear()
    assert [found(table) for _ in range(3)] == [first] * 3
    assert asked == [0, 0, 0]
    wider = found(table, limit=8)
    assert wider[:5] == first
    assert asked[3:] == [0, 3], "what was asked beforehand was not enough: three rows are fetched"
    assert found(table, select=["title"]) == [{"title": row["title"]} for row in first]
    assert asked[5:] == [5], "other columns are other rows, and nothing is asked beforehand"


def test_whoever_gets_a_row_may_change_it(database: Database) -> None:
    table = database.table("t")
    first = settled(table)
    for _ in range(2):
        again = found(table)
        assert again == first
        for row in again:
            row["title"] = "mine"
            row["about"]["n"].append("mine")


def test_what_others_write_is_seen_by_the_next_search(database: Database, postgres_url: str) -> None:
    table = database.table("t")
    with vectable.connect(postgres_url) as other:
        theirs = other.table("t")
        for turn in range(4):
            [best, second, *_] = settled(table)
            theirs.update(theirs.id == best["id"], {"title": f"changed {turn}"})
            assert settled(table)[0] == {**best, "title": f"changed {turn}"}
            theirs.delete(theirs.id == best["id"])
            assert settled(table)[0] == second
            theirs.insert({**best, "title": "back", "v": vectors()[best["id"]]})
            assert settled(table)[0] == {**best, "title": "back"}
            assert found(table) == found(theirs)


def test_columns_are_told_apart_whatever_they_are_called(database: Database, postgres_url: str) -> None:
    table = database.table("t")
    first = settled(table, select=["id", "title"])
    with vectable.connect(postgres_url) as other:
        theirs = other.table("t")
        theirs.add_column("other", "string", default="of all")
        theirs.rename_column("title", "kept")
        theirs.rename_column("other", "title")
        of_all = [{"id": row["id"], "title": "of all"} for row in first]
        assert settled(table, select=["id", "title"]) == of_all
        theirs.drop_column("title")
        theirs.rename_column("kept", "title")
        assert settled(table, select=["id", "title"]) == first


def test_what_is_told_of_cells_is_never_held(postgres_url: str, asked: list[int]) -> None:
    with vectable.connect(postgres_url, text_model="hashing/32") as database:
        table = database.create_table("cells", {"id": "int", "text": "string"})
        table.add_embedding_column("e", source="text")
        table.insert([{"id": i, "text": f"text {i}"} for i in range(9)])
        query = table.similar("text 3", on="e").select("id", "e.state", "e").limit(3)
        rows = [query.collect() for _ in range(3)][-1]
        asked.clear()
        assert [row["e.state"] for row in rows] == ["ready"] * 3
        query.collect()
        assert asked == [3]


def test_threads_that_search_while_somebody_writes(database: Database, postgres_url: str) -> None:
    wrong: list[object] = []
    done = threading.Event()
    table = database.table("t")

    def search(at: int) -> None:
        seen = {}
        while not done.is_set():
            try:
                for row in found(table, at):
                    number = int(row["about"]["n"][0])
                    if row["title"] != f"row {row['id']}" and row["title"] != f"new {row['id']} {number}":
                        wrong.append(row)
                    if number < seen.get(row["id"], number):
                        wrong.append(("older than before", row))
                    seen[row["id"]] = number
            except Exception as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=search, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    with vectable.connect(postgres_url) as other:
        theirs = other.table("t")
        for turn in range(1_000, 1_040):
            for key in range(ROWS):
                if key % 40 == turn % 40:
                    row = {"title": f"new {key} {turn}", "about": {"n": [turn]}}
                    theirs.update(theirs.id == key, row)
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


async def test_a_search_that_was_cancelled_leaves_nothing_behind(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, computing = asyncio.Event(), asyncio.Event()
    get = PostgresBackend.get_unchanged

    async def slow(self: PostgresBackend, table: Any, since: Any, *rest: Any) -> Any:
        if computing.is_set() and since is not None:
            asked.set()
            await self._driver.read(lambda connection: connection.fetch("SELECT pg_sleep(60)"))
        return await get(self, table, since, *rest)

    async def still(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(PostgresBackend, "get_unchanged", slow)
    async with await vectable.connect_async(postgres_url) as database:
        table = await database.create_table("t", COLUMNS)
        await table.insert([{"id": 1, "title": "row", "about": {}, "v": vectors()[0]}])
        query = table.similar(vectors()[0], on="v")
        for _ in range(3):
            await query.collect()
        before = asyncio.all_tasks()
        computing.set()
        monkeypatch.setattr(SimilarSearch, "_answered", still)
        search = asyncio.create_task(query.collect())
        await asked.wait()
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search
        assert not [t for t in asyncio.all_tasks() - before if "_outcome" in repr(t)]


def test_rows_of_hits_take_no_more_than_is_free_of_the_budget(postgres_url: str) -> None:
    budget, long = 60_000, "x" * 1_000
    with vectable.connect(postgres_url, resident_bytes=budget) as database:
        for n in range(40):
            table = database.create_table(f"t{n}", COLUMNS)
            table.insert([{"id": 1, "title": long, "about": {}, "v": vectors()[0]}])
            found(table)
        for n in range(40):
            for _ in range(2):
                assert [row["title"] for row in found(database.table(f"t{n}"))] == [long]
            assert database.status()["resident_bytes"] <= budget


def test_resident_rows_do_not_make_room_for_rows_of_hits(postgres_url: str) -> None:
    columns = {**COLUMNS, "v": {"type": "vector", "dimensions": 512}}
    with vectable.connect(postgres_url) as database:
        given = np.random.default_rng(4).standard_normal((400, 512)).astype(np.float32)
        database.create_table("t", columns).insert(
            [{"id": i, "title": "x" * 2_000, "about": {}, "v": v} for i, v in enumerate(given)]
        )
    with vectable.connect(postgres_url, resident_bytes=975_000) as database:
        table = database.table("t")
        some = table.where(table.id < 50).similar(given[0], on="v").limit(1).select("id")
        some.collect()
        rows = database.status()["resident_bytes"]
        for at in range(3):
            table.similar(given[at], on="v").limit(20).collect()
        assert database.status()["resident_bytes"] > rows + 20_000
        table.update(table.id == 1, {"title": "another"})
        assert some.explain().path != "backend"


def test_without_room_rows_used_last_take_the_place_of_others() -> None:
    free = True
    recent = RecentRows(100_000, lambda _: free)
    recent.start(Mark("0"))
    recent.keep(Mark("0"), "shape", {b"a": {"text": "a" * 500}})
    held, free = recent.nbytes, False
    recent.keep(Mark("0"), "shape", {b"b": {"text": "b" * 500}})
    assert recent.nbytes == held
    assert list(recent.found(Mark("0"), "shape", [b"a", b"b"])) == [b"b"]


Step = tuple[str, int]
steps = st.lists(
    st.tuples(st.sampled_from(["keep", "found", "move", "start"]), st.integers(0, 7)), max_size=60
)


@given(steps=steps, most=st.integers(0, 4_000))
def test_only_what_is_true_is_found_and_never_more_than_there_is_room_for(
    steps: list[Step], most: int
) -> None:
    recent, moment = RecentRows(most), 0
    truth = {str(n).encode(): 0 for n in range(8)}
    recent.start(Mark("0"))
    for step, n in steps:
        key = str(n).encode()
        if step == "keep":
            recent.keep(Mark(str(moment)), "shape", {key: {"at": truth[key], "more": "x" * n * 100}})
            recent.keep(Mark("another"), "shape", {key: {"at": "another moment"}})
        elif step == "found":
            for row in recent.found(Mark(str(moment)), "shape", [key]).values():
                assert row["at"] == truth[key]
            assert recent.found(Mark("another"), "shape", [key]) == {}
            assert recent.found(Mark(str(moment)), "another shape", [key]) == {}
        else:
            moment += 1
            changed = [key] if step == "move" else list(truth)
            truth.update(dict.fromkeys(changed, moment))
            if step == "move":
                recent.move(Mark(str(moment)), changed)
            else:
                recent.start(Mark(str(moment)))
        assert 0 <= recent.nbytes <= most
    recent.start(None)
    assert recent.nbytes == 0
