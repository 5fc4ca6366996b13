"""Searches of tables in PostgreSQL: by the rows held in memory, one statement proves them current."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import asyncpg
import numpy as np
import pytest

import vectable
from vectable.backends.postgres import PostgresBackend
from vectable.blocking import Database, Table
from vectable.core.mark import Mark
from vectable.core.rows import RecordBatch
from vectable.drivers.postgres import Address, Connection, PostgresDriver, driver
from vectable.testing.backend_suite.subject import Subject
from vectable.testing.samples import every_type_table, text_key

ROWS = 300
VECTOR = np.ones(8, np.float32)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is sent to the server, through the driver's own log."""
    sent: list[str] = []
    connect = driver.connect

    async def logged(*args: Any, **options: Any) -> Connection:
        connection = await connect(*args, **options)
        connection.add_query_logger(lambda query: sent.append(query.query))
        return connection

    monkeypatch.setattr(driver, "connect", logged)
    return sent


@pytest.fixture
def database(statements: list[str], postgres_url: str, tmp_path: Any) -> Iterator[Database]:
    with vectable.connect(postgres_url, cache_dir=tmp_path) as database:
        yield database


@pytest.fixture
def table(database: Database) -> Table:
    columns = {"id": "int", "part": "int", "v": {"type": "vector", "dimensions": 8}}
    table = database.create_table("t", columns)
    vectors = np.random.default_rng(3).standard_normal((ROWS, 8)).astype(np.float32)
    table.insert([{"id": i, "part": i % 3, "v": vectors[i]} for i in range(ROWS)])
    return table


def found(table: Table, **filter: int) -> list[int]:
    return [row["id"] for row in table.where(**filter).similar(VECTOR, on="v").limit(5).collect()]


def test_a_quiet_table_is_searched_with_one_statement_for_its_rows(
    table: Table, statements: list[str]
) -> None:
    first, filtered = [(found(table), found(table, part=1)) for _ in range(3)][-1]
    statements.clear()
    assert found(table) == first
    assert found(table, part=1) == filtered
    # One of each, which proves the definitions, too; the rows of the hits are held.
    assert len([s for s in statements if '"public"."t"' in s]) == len(statements) == 2
    assert not [s for s in statements if "t.key" in s]
    others = table.similar(-VECTOR, on="v").limit(5)
    statements.clear()
    assert len(others.collect()) == 5
    assert [s for s in statements if "t.key" in s] == statements[-1:], "what is not held, by one statement"


def test_a_search_of_rows_in_memory_reads_no_vector_in_the_server(
    table: Table, statements: list[str]
) -> None:
    found(table)
    found(table)
    statements.clear()
    for _ in range(3):
        found(table, part=1)
    cells = f"v_{table.definition.column('v').active}"
    assert not [s for s in statements if f"{cells}.vector" in s or ("ORDER BY" in s and "vector" in s)]


def test_a_change_through_another_handle_is_seen_by_the_next_search(
    table: Table, postgres_url: str, tmp_path: Any
) -> None:
    with vectable.connect(postgres_url, cache_dir=tmp_path / "other") as other:
        theirs = other.table("t")
        for _ in range(3):
            best = found(table)[0]
            found(table)
            theirs.delete(theirs.id == best)
            assert best not in found(table)
            theirs.insert({"id": best + 1_000, "part": 1, "v": VECTOR})
            assert found(table)[0] == best + 1_000


async def test_rows_written_by_who_was_slow_to_commit_are_not_proved_unchanged(postgres_url: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        backend = PostgresBackend(PostgresDriver(postgres_url, pool_least=1))
        await backend.open()
        stack.push_async_callback(backend.close)
        slow = await asyncpg.connect(**Address.parse(postgres_url).arguments)
        stack.push_async_callback(slow.close)
        subject = await Subject.create(backend, every_type_table())
        await subject.put({"id": "a"}, {"id": "b"})

        async def given(since: Mark) -> RecordBatch | None:
            rows = await backend.get_unchanged(subject.table, since, [text_key("a")], ["id"])
            proof = await backend.get_unchanged(subject.table, since, [], [])
            assert (rows is None) == (proof is None)
            return rows

        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("UPDATE everything SET title = 'x', vectable_xid = DEFAULT WHERE id = 'b'")
        await subject.put({"id": "c"})  # a later transaction, which ends first
        during = await subject.position()
        assert await given(during) is not None
        await transaction.commit()
        assert await given(during) is None
        assert await given(await subject.position()) is not None
