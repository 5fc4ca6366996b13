"""Marks, restores, maintenance, and definitions that change, as only SQLite shows them."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vectable.backends.sqlite import SqliteBackend
from vectable.core.predicate import TRUE
from vectable.core.rows import Delete, Put, RecordBatch
from vectable.core.schema import Column, ColumnType
from vectable.drivers.sqlite import SqliteDriver, restore
from vectable.errors import MarkExpired, StaleGeneration
from vectable.interfaces import Pushed, SchemaChange
from vectable.testing.backend_suite import Subject
from vectable.testing.samples import every_type_table, text_key, vector_column


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[SqliteDriver]:
    driver = SqliteDriver(tmp_path / "db", synchronous="normal")
    driver.open()
    yield driver
    await driver.close()


@pytest.fixture
def backend(driver: SqliteDriver) -> SqliteBackend:
    return SqliteBackend(driver)


# --- history


async def test_marks_expire_with_a_restore(
    driver: SqliteDriver, backend: SqliteBackend, tmp_path: Path
) -> None:
    subject = await Subject.create(backend, every_type_table())
    await subject.put({"id": "kept"})
    in_backup = await subject.position()
    await driver.backup(tmp_path / "backup")
    await subject.put({"id": "lost"})
    restore(tmp_path / "backup", driver.directory, overwrite=True)
    subject.mark = None
    for mark in (in_backup, subject.mark or in_backup):
        with pytest.raises(MarkExpired):
            await subject.changes(mark)
        with pytest.raises(MarkExpired):
            async with backend.view(subject.table, mark):
                raise AssertionError("not reached")
    assert await subject.ids() == {"kept"}
    await subject.put({"id": "new"})
    assert await subject.ids() == {"kept", "new"}


async def test_deletions_are_forgotten_after_their_time_and_marks_with_them(driver: SqliteDriver) -> None:
    patient, forgetful = SqliteBackend(driver), SqliteBackend(driver, tombstones=3, receipt_days=-1)
    subject = await Subject.create(patient, every_type_table())
    await subject.put(*({"id": f"r{n}"} for n in range(10)))
    marks = []
    for n in range(8):
        marks.append(await subject.position())
        await subject.write(deletes=[Delete(text_key(f"r{n}"))], receipts={f"k{n}": b"answer"})
    await patient.maintain()
    assert await subject.changes(marks[0]) == {text_key(f"r{n}") for n in range(8)}
    assert await patient.receipt(subject.table, "k0") == b"answer"
    await forgetful.maintain()
    assert await subject.changes(marks[5]) == {text_key(f"r{n}") for n in range(5, 8)}
    with pytest.raises(MarkExpired):
        await subject.changes(marks[4])
    assert await patient.receipt(subject.table, "k0") is None
    await SqliteBackend(driver, tombstone_days=-1).maintain()
    with pytest.raises(MarkExpired):
        await subject.changes(marks[7])
    assert await subject.changes(await subject.position()) == set()


async def test_a_view_across_a_dropped_column_is_a_stale_definition(backend: SqliteBackend) -> None:
    subject = await Subject.create(backend, every_type_table())
    old = subject.table
    await subject.put({"id": "a", "title": "x"})
    left = tuple(c for c in old.columns if c.name != "title")
    await subject.alter(
        old.model_copy(update={"columns": left}), SchemaChange("drop_column", column=old.column("title"))
    )
    with pytest.raises(StaleGeneration):
        await Subject(backend, old).get("a", columns=["stars"])
    with pytest.raises(StaleGeneration):
        await Subject(backend, old).put({"id": "b"})
    assert await subject.ids() == {"a"}


async def test_memory_stays_flat_over_a_large_scan(backend: SqliteBackend) -> None:
    table = every_type_table(vector_column("emb", 256))
    subject = await Subject.create(backend, table)
    version = table.column("emb").version.id
    blob = bytes(1024)
    for start in range(0, 6_000, 2_000):
        await subject.write(
            [
                Put(text_key(f"r{n}"), {"id": f"r{n}"}, {version: b"given"}, {version: blob})
                for n in range(start, start + 2_000)
            ]
        )
    async with backend.view(table) as view:
        sizes: list[RecordBatch] = []
        async for batch in view.scan(backend.push(table, TRUE), [], [version]):
            assert len(batch) <= 1_000
            sizes.append(batch.take([0]))
        assert len(sizes) == 6
        everything: Pushed = backend.push(table, TRUE)
        assert await view.count(everything) == 6_000


async def test_the_definitions_of_two_connections_meet(driver: SqliteDriver, backend: SqliteBackend) -> None:
    subject = await Subject.create(backend, every_type_table())
    other_driver = SqliteDriver(driver.directory, synchronous="normal")
    other = SqliteBackend(other_driver)
    await other.open()
    column = Column(name="added", type=ColumnType.INT, default=7)
    theirs = Subject(other, subject.table)
    await subject.put({"id": "a"})
    await theirs.alter(
        subject.table.model_copy(update={"columns": (*subject.table.columns, column)}),
        SchemaChange("add_column", column=column),
    )
    with pytest.raises(StaleGeneration):
        await subject.put({"id": "b"})
    with pytest.raises(StaleGeneration):
        await backend.alter(subject.table, SchemaChange("redefine"))
    assert await subject.ids() == {"a"}
    mine = Subject(backend, theirs.table)
    await mine.put({"id": "b", "added": 8})
    assert list((await theirs.get("a", "b", columns=["added"])).columns["added"]) == [7, 8]
    await other.close()


async def test_damage_met_by_a_view_is_told(driver: SqliteDriver, backend: SqliteBackend) -> None:
    from vectable.errors import DatabaseDamaged

    subject = await Subject.create(backend, every_type_table())
    await subject.put(*({"id": f"r{n}", "title": "x" * 3_000} for n in range(200)))
    await backend.close()
    connection = sqlite3.connect(driver.file)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.close()
    with driver.file.open("r+b") as file:
        file.seek(8192 * (pages // 2))
        file.write(b"\xff" * 8192 * (pages // 2))
    again = SqliteBackend(SqliteDriver(driver.directory))
    await again.open()
    with pytest.raises(DatabaseDamaged):
        await Subject(again, subject.table).ids()
    await again.close()
