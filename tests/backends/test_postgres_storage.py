"""How rows lie in PostgreSQL: readable with plain SQL, and told by marks that miss no slow writer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from vectable.backends.postgres import PostgresBackend
from vectable.backends.postgres.standing import Snapshot
from vectable.core.mark import Mark
from vectable.core.rows import Delete
from vectable.core.schema import Column, ColumnType, Table, Version
from vectable.core.vectors import distances, to_bytes
from vectable.drivers.postgres import PostgresDriver
from vectable.errors import Conflict, MarkExpired, Unsupported
from vectable.interfaces import SchemaChange
from vectable.testing.backend_suite import Subject
from vectable.testing.backend_suite.subject import put
from vectable.testing.samples import clustered_vectors, text_key, vector_column


@pytest.fixture
async def driver(postgres_url: str) -> AsyncIterator[PostgresDriver]:
    driver = PostgresDriver(postgres_url, pool_least=1)
    yield driver
    await driver.close()


@pytest.fixture
async def backend(driver: PostgresDriver) -> PostgresBackend:
    backend = PostgresBackend(driver)
    await backend.open()
    return backend


@pytest.fixture
async def plain(driver: PostgresDriver, backend: PostgresBackend) -> AsyncIterator[asyncpg.Connection]:
    """A connection of somebody else's."""
    connection = await asyncpg.connect(**driver.address.arguments)
    yield connection
    await connection.close()


def table(*names: str, name: str = "talks", type_: ColumnType = ColumnType.STRING) -> Table:
    key = Column(name="id", type=ColumnType.STRING, nullable=False)
    columns = [Column(name=n, type=type_) for n in names]
    return Table(name=name, key=(key.id,), columns=(key, *columns, vector_column("emb", 4)))


async def test_rows_read_by_their_names_in_plain_sql(
    backend: PostgresBackend, plain: asyncpg.Connection
) -> None:
    subject = await Subject.create(backend, table("title", "Größe", "select"))
    await subject.put({"id": "a", "title": "x", "Größe": "L", "select": "'"})
    found = await plain.fetchrow('SELECT id, title, "Größe", "select" FROM talks')
    assert dict(found) == {"id": "a", "title": "x", "Größe": "L", "select": "'"}


async def test_names_that_are_taken_or_too_long_are_chosen_anew(
    backend: PostgresBackend, plain: asyncpg.Connection
) -> None:
    names = ["ctid", "xmin", "vectable_key", "é" * 63, "é" * 62 + "e", "TABLEOID"]
    subject = await Subject.create(backend, table(*names, name="日" * 63))
    row = {"id": "a", **{name: name for name in names}}
    await subject.put(row)
    assert [found for _, found in await subject.rows()] == [row]
    stored = await plain.fetch(
        "SELECT attname FROM pg_attribute a JOIN vectable.tables t"
        " ON a.attrelid = format('%I.%I', t.rows_schema, t.rows_name)::regclass WHERE attnum > 0"
    )
    assert {"id", "TABLEOID"} < {name for (name,) in stored}


async def test_renaming_renames_what_plain_sql_sees(
    backend: PostgresBackend, plain: asyncpg.Connection
) -> None:
    subject = await Subject.create(backend, table("a", "b"))
    await subject.put({"id": "1", "a": "first", "b": "second"})
    swapped = {"a": "b", "b": "a"}
    columns = tuple(c.model_copy(update={"name": swapped.get(c.name, c.name)}) for c in subject.table.columns)
    renamed = subject.table.model_copy(update={"columns": columns, "name": "lectures"})
    await subject.alter(renamed, SchemaChange("redefine"))
    assert dict(await plain.fetchrow("SELECT a, b FROM lectures")) == {"a": "second", "b": "first"}
    assert await subject.rows(columns=["a", "b"]) == [(text_key("1"), {"a": "second", "b": "first"})]


async def test_a_table_of_others_is_left_alone(backend: PostgresBackend, plain: asyncpg.Connection) -> None:
    await plain.execute("CREATE TABLE talks (n int)")
    with pytest.raises(Conflict) as caught:
        await backend.alter(table("title"), SchemaChange("create_table"))
    assert "vectable attach" in caught.value.hint
    assert "another name" in caught.value.hint
    assert "VECTABLE_POSTGRES_ROWS_SCHEMA" in caught.value.hint
    assert await plain.fetchval("SELECT count(*) FROM vectable.tables") == 0


async def test_a_type_of_that_name_is_no_hindrance(backend: PostgresBackend) -> None:
    subject = await Subject.create(backend, table("title", name="vector"))
    await subject.put({"id": "a"})
    assert await subject.ids() == {"a"}


async def test_more_dimensions_than_pgvector_has_are_refused(backend: PostgresBackend) -> None:
    version = Version(dimensions=16_001)
    column = Column(name="big", type=ColumnType.VECTOR, versions=(version,), active=version.id)
    wide = table("title")
    with pytest.raises(Unsupported):
        await backend.alter(
            wide.model_copy(update={"columns": (*wide.columns, column)}), SchemaChange("create_table")
        )


async def test_a_slow_writer_is_not_missed(backend: PostgresBackend, plain: asyncpg.Connection) -> None:
    subject = await Subject.create(backend, table("title"))
    slow = plain.transaction()
    await slow.start()
    await plain.execute("INSERT INTO public.talks (vectable_key, id) VALUES ($1, 'slow')", text_key("slow"))
    written = await subject.put({"id": "fast"})
    noted = await subject.position()
    await slow.commit()
    assert text_key("slow") in await subject.changes(noted)
    assert text_key("slow") in await subject.changes(written.mark)
    assert await subject.ids() == {"slow", "fast"}


async def test_marks_stay_while_others_write(backend: PostgresBackend) -> None:
    subject = await Subject.create(backend, table("title"))
    other = await Subject.create(backend, table("title", name="other"))
    await subject.put({"id": "a"})
    mark = await subject.position()
    for i in "abc":
        await other.put({"id": i})
        assert await subject.position() == mark
    version = subject.table.column("emb").version
    seen = [mark]
    for change in (
        subject.put({"id": "b"}),
        subject.cell("b", version, b"w", set_want=True),
        subject.put({"id": "b"}),
    ):
        await change
        seen.append(await subject.position())
        assert await subject.position() == seen[-1]
    assert len(set(seen)) == len(seen)


async def test_forgotten_deletions_expire_marks(driver: PostgresDriver, backend: PostgresBackend) -> None:
    subject = await Subject.create(backend, table("title"))
    await subject.put({"id": "a"}, {"id": "b"})
    start = await subject.position()
    for i in "ab":
        await subject.write(deletes=[Delete(text_key(i))])
    later = await subject.position()
    await PostgresBackend(driver, tombstones=0).maintain()
    with pytest.raises(MarkExpired):
        await subject.changes(start)
    assert await subject.changes(later) == set()


async def test_vectors_are_compared_with_the_core_s_precision(backend: PostgresBackend) -> None:
    subject = await Subject.create(backend, table("title"))
    version = subject.table.column("emb").version
    vectors = clustered_vectors(300, 4, clusters=1, spread=1e-4)
    await subject.write(
        [
            put({"id": f"{i:03d}"}, wants={version.id: b"g"}, vectors={version.id: to_bytes(v)})
            for i, v in enumerate(vectors)
        ]
    )
    apart = distances(vectors[7], vectors, version.metric)
    best = sorted(range(300), key=lambda i: (apart[i], i))[:5]
    found, complete = await subject.nearest(version, vectors[7], 5)
    assert complete
    assert {text_key(f"{i:03d}") for i in best} <= set(found)


@pytest.mark.parametrize(
    ("text", "own", "expected"),
    [
        ("10:10:", 10, "11:11:"),
        ("10:12:10", 12, "10:13:10"),
        ("10:12:10", 15, "10:16:10,12,13,14"),
        ("5:9:5,7", 7, "5:9:5"),
        ("8:8:", 10, "8:11:8,9"),
    ],
)
def test_a_write_s_own_mark_includes_it_and_no_other(text: str, own: int, expected: str) -> None:
    assert str(Snapshot.told(text).with_own(own)) == expected
    assert Snapshot.parse(expected) == Snapshot.told(expected)


@pytest.mark.parametrize("text", ["", "1", "2:1:", "1:2:3", "1:9:5,3", "1:9:a", "0:0:", "1:2:1,1", "-1:2:"])
def test_what_is_no_snapshot_is_none(text: str) -> None:
    assert Snapshot.parse(text) is None


async def test_a_mark_of_another_incarnation_is_expired(backend: PostgresBackend) -> None:
    subject = await Subject.create(backend, table("title"))
    mark = await subject.position()
    _, rest = mark.value.split(":", 1)
    with pytest.raises(MarkExpired):
        await subject.changes(Mark(f"{'0' * 16}:{rest}"))
