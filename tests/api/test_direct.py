"""Queries answered on the caller's thread mean what those answered by the loop mean."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vectable import Database, Result, Table, connect
from vectable.blocking.loop import Loop
from vectable.errors import InvalidVector, UnknownColumn, Unsupported


@pytest.fixture
def points(db: Database) -> Table:
    generator = np.random.default_rng(7)
    table = db.create_table("points", {"n": "int", "v": {"type": "vector", "dimensions": 16}})
    vectors = generator.normal(size=(500, 16)).astype(np.float32)
    table.insert([{"id": f"{i:04}", "n": i % 10, "v": vectors[i]} for i in range(500)])
    return table


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the coroutines the loop was given."""
    seen: list[str] = []
    run = Loop.run

    def counted(self: Loop, coroutine: Any) -> Any:
        seen.append(coroutine.__qualname__)
        return run(self, coroutine)

    monkeypatch.setattr(Loop, "run", counted)
    return seen


def facts(result: Result) -> tuple[Any, ...]:
    return result.to_dicts(), result.coverage, result.next_cursor, result.plan.path, result.columns


QUERIES = {
    "plain": lambda t, v: t.where(t.n == 3).order_by("-id").limit(7),
    "similar": lambda t, v: t.similar(v).limit(10),
    "filtered": lambda t, v: t.where(t.n < 2).similar(v, threshold=0.0).limit(20).offset(3),
    "nothing": lambda t, v: t.where(t.n == 99).similar(v),
    "selected": lambda t, v: t.similar(v, exact=True).select("id", "v").limit(3),
}


@pytest.mark.parametrize("name", QUERIES)
def test_both_ways_give_the_same(points: Table, name: str, calls: list[str]) -> None:
    query = QUERIES[name](points, np.linspace(-1, 1, 16))
    query.collect()
    calls.clear()
    here = query.collect()
    assert calls == []
    there = points._run(query._query.collect())
    assert repr(facts(here)) == repr(facts(there))


def test_text_takes_the_loop_that_owns_the_model(layouts: Table, calls: list[str]) -> None:
    assert layouts.similar("react hooks and state").first() is not None
    assert calls == ["AsyncTableQuery.collect"]


def test_changes_of_other_processes_are_seen(tmp_path: Path) -> None:
    with connect(tmp_path / "db") as one, connect(tmp_path / "db") as two:
        mine = one.create_table("notes", {"text": "string"})
        theirs = two.table("notes")
        assert len(mine.limit(5).collect()) == 0
        theirs.insert({"id": "1", "text": "from elsewhere"})
        assert [row.text for row in mine.limit(5).collect()] == ["from elsewhere"]
        theirs.add_column("stars", "int", default=3)
        assert mine.limit(5).collect()[0].stars == 3
        theirs.drop_column("text")
        with pytest.raises(UnknownColumn):
            mine.select("text").collect()


def test_errors_are_the_same(points: Table) -> None:
    with pytest.raises(InvalidVector, match="16"):
        points.similar([1.0]).collect()
    with pytest.raises(UnknownColumn, match="did you mean 'n'"):
        points.where({"column": "nn", "operator": "=", "value": 1}).collect()


def test_the_own_loop_and_closed_databases_are_refused_here_too(points: Table, db: Database) -> None:
    query = points.limit(1)

    async def nested() -> None:
        query.collect()

    with pytest.raises(Unsupported, match="connect_async"):
        db._loop.run(nested())
    db.close()
    with pytest.raises(Unsupported, match="is closed"):
        query.collect()


def test_threads_search_while_others_write(points: Table) -> None:
    """Every answer is one consistent moment: the rows of a batch are seen all or not at all."""
    failures: list[object] = []
    done = threading.Event()
    target = np.ones(16, np.float32)

    def search() -> None:
        try:
            while not done.is_set():
                hits = points.where(points.n == 77).similar(target).limit(100).collect()
                if len(hits) % 5 or any(hit.n != 77 for hit in hits):
                    failures.append(len(hits))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for batch in range(15):
        points.insert([{"id": f"new {batch} {i}", "n": 77, "v": target + i} for i in range(5)])
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert points.where(points.n == 77).count() == 75
