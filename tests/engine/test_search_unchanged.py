"""A search answered by the rows held, with proof from the backend that they are current."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

import vectable
from tests.waiting import until_async
from vectable.backends.sqlite import SqliteBackend
from vectable.blocking import Database, Table
from vectable.engine.search.searcher import Searcher
from vectable.state.postgres import PostgresStateStore
from vectable.state.sqlite import SqliteStateStore
from vectable.testing.samples import clustered_vectors

ROWS = 300


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a view was opened, and rows were fetched without one."""
    counts = {"view": 0, "proved": 0, "refused": 0}
    view, get = SqliteBackend.view, SqliteBackend.get_unchanged

    def counted_view(self, *args, **options):
        counts["view"] += 1
        return view(self, *args, **options)

    async def counted_get(self, *args, **options):
        found = await get(self, *args, **options)
        counts["refused" if found is None else "proved"] += 1
        return found

    monkeypatch.setattr(SqliteBackend, "view", counted_view)
    monkeypatch.setattr(SqliteBackend, "get_unchanged", counted_get)
    return counts


def filled(database: Database) -> Table:
    columns = {"id": "int", "part": "int", "v": {"type": "vector", "dimensions": 8}}
    table = database.create_table("t", columns)
    vectors = np.random.default_rng(3).standard_normal((ROWS, 8)).astype(np.float32)
    table.insert([{"id": i, "part": i % 3, "v": vectors[i]} for i in range(ROWS)])
    return table


def found(table: Table, **options) -> list[int]:
    query = np.ones(8, np.float32)
    return [row["id"] for row in table.where(**options).similar(query, on="v").limit(5).collect()]


def test_a_quiet_table_is_searched_without_a_view(tmp_path: Path, calls: dict[str, int]) -> None:
    with vectable.connect(tmp_path / "db") as database:
        table = filled(database)
        first, filtered = found(table), found(table, part=1)
        calls.update(view=0, proved=0, refused=0)
        assert [found(table) for _ in range(3)] == [first] * 3
        assert found(table, part=1) == filtered
        assert calls == {"view": 0, "proved": 4, "refused": 0}


def test_the_next_search_after_a_change_sees_it_and_the_one_after_looks_first(
    tmp_path: Path, calls: dict[str, int]
) -> None:
    with vectable.connect(tmp_path / "db") as database, vectable.connect(tmp_path / "db") as other:
        table, theirs = filled(database), other.table("t")
        best = found(table)
        for _ in range(3):
            theirs.delete(theirs.id == best[0])
            assert found(table) == found(theirs)
            assert best[0] not in found(table)
            best = found(table)
        found(table)
        calls.update(view=0, proved=0, refused=0)
        theirs.delete(theirs.id == best[0])
        assert best[0] not in found(table)
        assert calls["refused"] == 1  # searched, and found out that somebody had written
        theirs.insert({"id": 1_000, "part": 0, "v": np.ones(8, np.float32)})
        assert found(table)[0] == 1_000
        assert calls["refused"] == 1  # looked before it searched
        found(table)  # looks, and finds the table quiet again
        calls.update(view=0, proved=0)
        assert found(table)[0] == 1_000
        assert calls == {"view": 0, "proved": 1, "refused": 1}


def test_dropping_a_column_that_is_read_is_noticed(tmp_path: Path) -> None:
    with vectable.connect(tmp_path / "db") as database, vectable.connect(tmp_path / "db") as other:
        table = filled(database)
        found(table)
        other.table("t").drop_column("part")
        rows = table.where().similar(np.ones(8, np.float32), on="v").limit(1).collect()
        assert "part" not in rows[0]
        with pytest.raises(vectable.errors.UnknownColumn):
            found(table, part=1)


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a database may be made that keeps its bookkeeping beside the rows."""
    return str(tmp_path / "db") if request.param == "sqlite" else request.getfixturevalue("postgres_url")


def test_a_quiet_search_asks_the_catalogue_nothing(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    for store in (SqliteStateStore, PostgresStateStore):
        get = store.get

        async def noted(self, keys, get=get):
            asked.append(keys)
            return await get(self, keys)

        monkeypatch.setattr(store, "get", noted)
    with vectable.connect(address) as database:
        table = filled(database)
        first = found(table), found(table, part=1)
        found(table)
        asked.clear()
        assert (found(table), found(table, part=1)) == first
        assert asked == []


def test_another_table_under_the_name_is_noticed_by_the_next_search(address: str) -> None:
    with vectable.connect(address) as database, vectable.connect(address) as other:
        table = filled(database)
        first = found(table)
        other.rename_table("t", "old")
        with pytest.raises(vectable.errors.TableNotFound):
            found(table)
        columns = {"id": "int", "part": "int", "v": {"type": "vector", "dimensions": 8}}
        other.create_table("t", columns).insert([{"id": 7_000, "part": 0, "v": np.ones(8, np.float32)}])
        assert found(table) == [7_000]
        assert found(database.table("old")) == first
        for _ in range(3):
            other.rename_table("t", "other")
            other.rename_table("old", "t")
            assert found(table) == first
            other.rename_table("t", "old")
            other.rename_table("other", "t")
            assert found(table) == [7_000]


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The reads that went to another thread."""
    reads: list[object] = []
    hop = Searcher._hop

    async def noted(self, read):
        reads.append(read)
        return await hop(self, read)

    monkeypatch.setattr(Searcher, "_hop", noted)
    return reads


async def test_small_searches_are_answered_by_the_loop_which_hears_others_in_between(
    tmp_path: Path, hops: list[object]
) -> None:
    with vectable.connect(tmp_path / "db") as database:
        filled(database)
    async with await vectable.connect_async(tmp_path / "db") as database:
        table = await database.table("t")
        vectors = np.random.default_rng(5).standard_normal((40, 8)).astype(np.float32)
        queries = [table.similar(vector, on="v").limit(3) for vector in vectors]
        expected = [(await query.collect()).scores for query in queries]
        await asyncio.sleep(0)
        hops.clear()
        passes = 0

        async def listen() -> None:
            nonlocal passes
            while True:
                passes += 1
                await asyncio.sleep(0)

        listener = asyncio.create_task(listen())
        found = await asyncio.gather(*(query.collect() for query in queries))
        listener.cancel()
        assert [f.scores for f in found] == expected
        assert hops == []
        assert passes >= len(queries)
        impatient = [asyncio.create_task(query.collect()) for query in queries]
        await asyncio.sleep(0)
        for task in impatient[1::2]:
            task.cancel()
        done = await asyncio.gather(*impatient, return_exceptions=True)
        assert [d.scores for d in done[::2]] == expected[::2], "those who stay are answered"


async def test_a_fast_scan_runs_on_the_loop_unless_others_wait_for_it(
    tmp_path: Path, hops: list[object]
) -> None:
    vectors = clustered_vectors(21_000, 16, seed=8)
    async with await vectable.connect_async(tmp_path / "db") as database:
        columns = {"id": "int", "v": {"type": "vector", "dimensions": 16}}
        table = await database.create_table("t", columns)
        await table.insert([{"id": i, "v": vector} for i, vector in enumerate(vectors)])
        queries = [table.similar(vectors[i * 97], on="v").limit(3) for i in range(20)]
        await until_async(queries[0].explain, lambda plan: plan.path == "fast-scan")
        hops.clear()
        alone = [await query.collect() for query in queries]
        assert {found.plan.path for found in alone} == {"fast-scan"}
        assert hops == []
        together = await asyncio.gather(*(query.collect() for query in queries))
        assert [found.scores for found in together] == [found.scores for found in alone]
        assert hops
