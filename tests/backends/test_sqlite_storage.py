"""What only SQLite shows: physical names, plans, writes, and reading one moment."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vectable.backends.sqlite import SqliteBackend
from vectable.core.predicate import TRUE, bind, parse_filter
from vectable.core.query import OrderTerm
from vectable.core.rows import CellWrite, Delete, Put
from vectable.core.schema import Column, ColumnType, Index, Metric, Table
from vectable.drivers.sqlite import SqliteDriver
from vectable.errors import KeyExists, StaleGeneration, Unsupported
from vectable.interfaces import SchemaChange
from vectable.testing.backend_suite import Subject
from vectable.testing.samples import HOSTILE_STRINGS, every_type_table, text_key, vector_column


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[SqliteDriver]:
    driver = SqliteDriver(tmp_path / "db", synchronous="normal")
    driver.open()
    yield driver
    await driver.close()


@pytest.fixture
def backend(driver: SqliteDriver) -> SqliteBackend:
    return SqliteBackend(driver)


def plan(driver: SqliteDriver, sql: str) -> str:
    with driver.reading() as connection:
        return " / ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall())


def statements(driver: SqliteDriver) -> list[str]:
    """Everything the file's schema says."""
    with driver.reading() as connection:
        rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    return [row[0] for row in rows]


def wanting(row: str, version: str, want: bytes | None = b"w") -> Put:
    return Put(text_key(row), {"id": row}, {version: want})


def drive(coroutine: Any) -> Any:
    """Runs a coroutine that must not suspend, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it suspended")


# --- names


async def test_what_users_call_things_never_enters_a_statement(
    driver: SqliteDriver, backend: SqliteBackend
) -> None:
    odd = [n for n in HOSTILE_STRINGS if n and len(n) < 60]
    names = [n for n in odd if not any(c in '.[]"' or c < " " for c in n)]
    key = Column(name="id", type=ColumnType.STRING, nullable=False)
    columns = tuple(Column(name=n, type=ColumnType.STRING) for n in names)
    table = Table(name="select", namespace="drop", key=(key.id,), columns=(key, *columns))
    index = Index(name="'; drop table t", column=columns[3].id, type="btree")
    subject = await Subject.create(backend, table)
    await subject.alter(
        table.model_copy(update={"indexes": (index,)}), SchemaChange("create_index", index=index)
    )
    row = {"id": "r", **{n: n for n in names}}
    await subject.put(row)
    batch = await subject.get("r", columns=names)
    assert next(batch.rows()) == {n: n for n in names}
    for statement in statements(driver):
        assert re.fullmatch(r"[\w\s(),;.<>'=]+", statement), statement
        assert "drop" not in statement.lower().split()


async def test_ids_that_are_no_plain_words_are_stored_safely(backend: SqliteBackend) -> None:
    ids = ["T-1", "t 1", "'); drop", "T-1 ", "ü", "x" * 80]
    for id_ in ids:
        key = Column(id=id_, name="id", type=ColumnType.STRING, nullable=False)
        table = Table(id=id_, name="n", key=(id_,), columns=(key,))
        subject = await Subject.create(backend, table)
        await subject.put({"id": id_})
    for id_ in ids:
        key = Column(id=id_, name="id", type=ColumnType.STRING, nullable=False)
        found = Subject(backend, Table(id=id_, name="n", key=(id_,), columns=(key,)))
        assert await found.ids() == {id_}


async def test_a_float_keeps_the_sign_of_zero_and_json_its_long_integers(backend: SqliteBackend) -> None:
    subject = await Subject.create(backend, every_type_table())
    await subject.put({"id": "a", "rating": -0.0, "meta": {"n": 10**40, "f": 0.1}, "weights": [-0.0, 5e-324]})
    batch = await subject.get("a", columns=["rating", "meta", "weights", "meta.n"])
    row = next(batch.rows())
    assert str(row["rating"]) == "-0.0"
    assert row["meta"] == {"n": 10**40, "f": 0.1}
    assert [str(w) for w in row["weights"]] == ["-0.0", "5e-324"]
    assert row["meta.n"] == 10**40


# --- plans: found by an index, not by looking at everything


async def test_unfinished_cells_are_found_without_looking_at_finished_ones(
    driver: SqliteDriver, backend: SqliteBackend
) -> None:
    table = every_type_table(vector_column("emb", 4, auto_update=True))
    subject = await Subject.create(backend, table)
    version = table.column("emb").version.id
    await subject.write([wanting(f"r{n}", version) for n in range(20)])
    ready = [CellWrite(text_key(f"r{n}"), version, b"w", vector=bytes(16)) for n in range(15)]
    assert (await subject.write(cells=ready)).cells_written == 15
    for where in (
        {"column": "emb.state", "operator": "in", "value": ["new", "stale", "error"]},
        {"op": "and", "args": [
            {"column": "emb.state", "operator": "=", "value": "new"},
            {"column": "title", "operator": "is null"},
        ]},
    ):  # fmt: skip
        pushed = backend.push(table, bind(parse_filter(where), table))
        assert pushed.residual is None
        assert await subject.ids(bind(parse_filter(where), table)) == {f"r{n}" for n in range(15, 20)}
        sql = f"SELECT t.key FROM t_{table.id} t LEFT JOIN v_{version} ON v_{version}.rid = t.rid"
        literal = pushed.native.text
        for value in pushed.native.params:
            literal = literal.replace("?", repr(value), 1)
        assert plan(driver, f"{sql} WHERE {literal} ORDER BY t.key").startswith(
            f"SEARCH v_{version} USING INDEX p_{version}"
        )


async def test_a_scalar_index_is_used_and_goes_with_its_column(
    driver: SqliteDriver, backend: SqliteBackend
) -> None:
    subject = await Subject.create(backend, every_type_table())
    table = subject.table
    column = table.column("title")
    index = Index(name="by_title", column=column.id, type="hash")
    await subject.alter(
        table.model_copy(update={"indexes": (index,)}), SchemaChange("create_index", index=index)
    )
    pushed = backend.push(
        subject.table, bind(parse_filter({"column": "title", "operator": "=", "value": "a"}), table)
    )
    sql = f"SELECT t.key FROM t_{table.id} AS t WHERE {pushed.native.text.replace('?', repr('a'))}"
    assert f"USING INDEX i_{index.id}" in plan(driver, sql)
    left = tuple(c for c in table.columns if c.name != "title")
    await subject.alter(
        table.model_copy(update={"columns": left, "indexes": ()}), SchemaChange("drop_column", column=column)
    )
    assert not any(index.id in statement for statement in statements(driver))
    assert not any(column.id in statement for statement in statements(driver))


async def test_vector_indexes_are_refused(backend: SqliteBackend) -> None:
    subject = await Subject.create(backend, every_type_table())
    column = subject.table.column("emb")
    index = Index(name="i", column=column.id, type="vector", method="hnsw", version=column.active)
    with pytest.raises(Unsupported):
        await subject.alter(subject.table, SchemaChange("create_index", index=index))


async def test_dropping_a_table_leaves_nothing(driver: SqliteDriver, backend: SqliteBackend) -> None:
    before = sorted(statements(driver))
    subject = await Subject.create(backend, every_type_table())
    await subject.put({"id": "a"}, {"id": "b"})
    await subject.write(deletes=[Delete(text_key("a"))], receipts={"key": b"answer"})
    for _ in range(2):
        await backend.alter(subject.table, SchemaChange("drop_table"))
    assert sorted(statements(driver)) == before
    with driver.reading() as connection:
        for table in ("tables", "versions", "receipts"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


# --- writes


async def test_taken_keys_are_named(backend: SqliteBackend) -> None:
    subject = await Subject.create(backend, every_type_table())
    await subject.put(*({"id": f"old{n:02d}"} for n in range(15)))
    rows = [{"id": "new0"}, *({"id": f"old{n:02d}"} for n in range(15)), {"id": "new1"}]
    with pytest.raises(KeyExists) as caught:
        await subject.put(*rows, guard="absent")
    assert caught.value.context["keys"] == [f"old{n:02d}" for n in range(10)]
    assert "14 more" in str(caught.value)
    assert len(await subject.ids()) == 15
    with pytest.raises(KeyExists) as caught:
        await subject.put({"id": "twice"}, {"id": "new"}, {"id": "twice"}, guard="absent")
    assert caught.value.context["keys"] == ["twice"]


async def test_a_version_that_is_not_stored_is_a_stale_definition(backend: SqliteBackend) -> None:
    subject = await Subject.create(backend, every_type_table())
    await subject.put({"id": "a"})
    with pytest.raises(StaleGeneration):
        await subject.write(cells=[CellWrite(text_key("a"), "0" * 32, b"w", set_want=True)])
    with pytest.raises(StaleGeneration):
        await subject.get("a", versions=["0" * 32])


async def test_the_count_kept_beside_the_table_is_the_count(
    driver: SqliteDriver, backend: SqliteBackend
) -> None:
    subject = await Subject.create(backend, every_type_table())
    rng = np.random.default_rng(3)
    for _ in range(30):
        puts = [Put(text_key(f"r{n}"), {"id": f"r{n}"}) for n in rng.integers(0, 40, 12)]
        deletes = [Delete(text_key(f"r{n}")) for n in rng.integers(0, 40, 6)]
        await subject.write(puts, deletes)
        async with backend.view(subject.table) as view:
            counted = await view.count(backend.push(subject.table, TRUE))
        with driver.reading() as connection:
            assert connection.execute(f"SELECT count(*) FROM t_{subject.table.id}").fetchone() == (counted,)


async def test_cells_go_with_their_row(driver: SqliteDriver, backend: SqliteBackend) -> None:
    table = every_type_table(vector_column("a", 4), vector_column("b", 4))
    subject = await Subject.create(backend, table)
    versions = [c.version.id for c in table.vector_columns]
    for n in range(5):
        await subject.write([Put(text_key(f"r{n}"), {"id": f"r{n}"}, dict.fromkeys(versions, b"w"))])
    await subject.write(deletes=[Delete(text_key(f"r{n}")) for n in range(4)])
    await subject.put({"id": "r1"})
    assert [cell.state for cell in await subject.cells(table.column("a").version, "r1", "r4")] == [
        "empty",
        "new",
    ]
    with driver.reading() as connection:
        for version in versions:
            assert connection.execute(f"SELECT count(*) FROM v_{version}").fetchone() == (1,)


# --- views


async def test_a_view_never_suspends_and_works_on_any_thread(backend: SqliteBackend) -> None:
    table = every_type_table()
    subject = await Subject.create(backend, table)
    await subject.put(*({"id": f"r{n}"} for n in range(1_500)))

    async def read() -> tuple[int, int, int]:
        async with backend.view(table) as view:
            pushed = backend.push(table, TRUE)
            scanned = [b async for b in view.scan(pushed, ["id"])]
            got = await view.get([text_key("r7")], ["id"])
            return sum(map(len, scanned)), len(got), await view.count(pushed)

    assert drive(read()) == (1_500, 1, 1_500)
    results = await asyncio.gather(*(asyncio.to_thread(drive, read()) for _ in range(16)))
    assert set(results) == {(1_500, 1, 1_500)}


async def test_a_scan_left_early_pins_no_moment(driver: SqliteDriver, backend: SqliteBackend) -> None:
    table = every_type_table()
    subject = await Subject.create(backend, table)
    await subject.put(*({"id": f"r{n}"} for n in range(2_500)))
    left: list[Any] = []
    for number in range(5):
        async with backend.view(table) as view:
            scan = view.scan(backend.push(table, TRUE), ["id"])
            left.append(scan)
            assert len(await anext(scan)) == 1_000
        await subject.put({"id": f"later{number}"})
        # The connection that was used is used again, and must see what came since.
        assert f"later{number}" in await subject.ids()
    await driver.checkpoint()
    assert Path(f"{driver.file}-wal").stat().st_size == 0


async def test_orders_sqlite_does_not_have_page_like_the_others(backend: SqliteBackend) -> None:
    table = every_type_table()
    subject = await Subject.create(backend, table)
    metas: list[Any] = [None, {}, {"a": None}, {"a": 2}, {"a": 10}, {"a": "x"}, {"a": True}, {"a": [1]}]
    await subject.put(*({"id": f"r{n:02d}", "meta": metas[n % 8], "stars": n % 3} for n in range(40)))
    order = [OrderTerm.parse("-meta.a"), OrderTerm.parse("stars")]
    whole = await subject.rows(columns=["id"], order=order)
    assert len(whole) == 40
    paged: list[Any] = []
    names = ["id", "meta.a", "stars"]
    from vectable.interfaces import Position

    after = None
    while page := await subject.rows(columns=names, order=order, after=after, limit=7):
        paged += page
        key, last = page[-1]
        after = Position((last["meta.a"], last["stars"]), key)
    assert [key for key, _ in paged] == [key for key, _ in whole]


@pytest.mark.parametrize("metric", list(Metric))
async def test_nearest_names_everything_tied_with_the_last(backend: SqliteBackend, metric: Metric) -> None:
    table = every_type_table(vector_column("emb", 3, metric))
    subject = await Subject.create(backend, table)
    version = table.column("emb").version
    vectors = {"near": [1, 0, 0], **{f"tie{n:03d}": [0.5, 0.5, 0] for n in range(400)}, "far": [-1, 0, 0]}
    await subject.write(
        [
            Put(text_key(i), {"id": i}, {version.id: b"given"}, {version.id: np.array(v, "<f4").tobytes()})
            for i, v in vectors.items()
        ]
    )
    found, complete = await subject.nearest(version, np.array([1, 0, 0], np.float32), 5)
    assert complete
    assert found == [text_key("near"), *(text_key(f"tie{n:03d}") for n in range(400))]
    assert (await subject.nearest(version, np.array([1, 0, 0], np.float32), 0))[0] == []
