"""Tables and columns: made, changed, dropped, any number of times; storage goes by ids."""

from __future__ import annotations

import pytest

from vectable.core.cell import Cell
from vectable.core.key import encode_key
from vectable.core.rows import CellWrite, Delete, Put, WriteBatch
from vectable.core.schema import Column, ColumnType, Index, Table, Version, new_id
from vectable.core.vectors import to_bytes
from vectable.errors import StaleGeneration, TableNotFound, Unsupported
from vectable.interfaces import Backend, SchemaChange
from vectable.testing.backend_suite.fixtures import SuiteFixtures
from vectable.testing.backend_suite.subject import Subject, put, same
from vectable.testing.samples import clustered_vectors, every_type_rows, every_type_table, text_key

VECTOR = to_bytes(clustered_vectors(1, 4)[0])


class SchemaTests(SuiteFixtures):
    async def test_creating_again_keeps_the_rows(self, subject: Subject) -> None:
        await subject.put({"id": "a", "title": "kept"})
        await subject.backend.alter(subject.table, SchemaChange("create_table"))
        assert await subject.rows(columns=["title"]) == [(text_key("a"), {"title": "kept"})]

    async def test_a_table_that_was_never_made_is_not_found(self, backend: Backend) -> None:
        table = every_type_table()
        with pytest.raises(TableNotFound):
            await backend.write(table, WriteBatch(1, [put({"id": "a"})]))
        with pytest.raises(TableNotFound):
            async with backend.view(table) as view:
                await view.get([text_key("a")], ["id"])
        with pytest.raises(TableNotFound):
            await backend.alter(table, SchemaChange("add_column", column=table.column("title")))

    async def test_dropping_removes_the_rows_and_repeats(self, subject: Subject) -> None:
        await subject.put({"id": "a"})
        for _ in range(2):
            await subject.backend.alter(subject.table, SchemaChange("drop_table"))
        with pytest.raises(TableNotFound):
            await subject.put({"id": "a"})

    async def test_dropped_and_made_again_is_a_new_thing(self, subject: Subject) -> None:
        await subject.put({"id": "a"}, wants={subject.table.column("emb").version.id: b"w"})
        old = await subject.position()
        await subject.backend.alter(subject.table, SchemaChange("drop_table"))
        again = await Subject.create(subject.backend, every_type_table(name=subject.table.name))
        assert await again.ids() == set()
        await again.put({"id": "b"})
        assert await again.ids() == {"b"}
        assert old != await again.position()

    async def test_tables_do_not_see_each_other(self, subject: Subject) -> None:
        other = await Subject.create(subject.backend, every_type_table(name=subject.table.name))
        await subject.put({"id": "a", "title": "mine"})
        await other.put({"id": "a", "title": "theirs"}, {"id": "b"})
        assert await subject.rows(columns=["title"]) == [(text_key("a"), {"title": "mine"})]
        assert await other.ids() == {"a", "b"}

    async def test_renaming_has_no_effect_on_storage(self, subject: Subject) -> None:
        await subject.put({"id": "a", "title": "text", "stars": 5})
        mark = await subject.position()
        columns = tuple(
            c.model_copy(update={"name": {"title": "stars", "stars": "select"}.get(c.name, c.name)})
            for c in subject.table.columns
        )
        renamed = subject.table.model_copy(update={"name": "order", "namespace": "x", "columns": columns})
        await subject.alter(renamed, SchemaChange("redefine"))
        assert await subject.rows(columns=["stars", "select"]) == [
            (text_key("a"), {"stars": "text", "select": 5})
        ]
        await subject.put({"id": "b", "stars": "text", "select": 6})
        assert text_key("b") in await subject.changes(mark)

    @pytest.mark.parametrize(
        ("type_", "default"),
        [
            (ColumnType.STRING, 'it\'s "100%" \\ é ?'),
            (ColumnType.STRING, ""),
            (ColumnType.INT, 2**63 - 1),
            (ColumnType.FLOAT, 0.1),
            (ColumnType.BOOL, False),
            (ColumnType.JSON, {"a": [1, None, "'"]}),
            (ColumnType.STRINGS, ["a", "'"]),
            (ColumnType.STRING, None),
            (ColumnType.INT, None),
            (ColumnType.TIMESTAMP, None),
            (ColumnType.JSON, None),
        ],
    )
    async def test_a_new_column_gives_old_rows_its_default(
        self, subject: Subject, type_: ColumnType, default: object
    ) -> None:
        await subject.put({"id": "old", "title": "kept"})
        column = Column(name="select from", type=type_, default=default).model_copy(update={"name": "added"})
        wider = subject.table.model_copy(update={"columns": (*subject.table.columns, column)})
        await subject.alter(wider, SchemaChange("add_column", column=column))
        ((_, row),) = await subject.rows(columns=["title", "added"])
        assert row["title"] == "kept"
        assert same(row["added"], default)
        await subject.put({"id": "new", "added": None})
        await subject.backend.alter(subject.table, SchemaChange("add_column", column=column))
        found = {row["id"]: row["added"] for _, row in await subject.rows(columns=["id", "added"])}
        assert found["new"] is None
        assert same(found["old"], default)

    async def test_a_dropped_column_is_gone_for_good(self, subject: Subject) -> None:
        await subject.put({"id": "a", "title": "text", "stars": 5})
        before, dropped = subject.table, subject.table.column("title")
        rest = tuple(c for c in before.columns if c is not dropped)
        change = SchemaChange("drop_column", column=dropped)
        await subject.alter(before.model_copy(update={"columns": rest}), change)
        await subject.backend.alter(subject.table, change)
        assert await subject.rows(columns=["stars"]) == [(text_key("a"), {"stars": 5})]
        with pytest.raises(StaleGeneration):
            await Subject(subject.backend, before).rows(columns=["title"])
        again = Column(name="title", type=ColumnType.STRING)
        wider = subject.table.model_copy(update={"columns": (*rest, again)})
        await subject.alter(wider, SchemaChange("add_column", column=again))
        assert await subject.rows(columns=["title"]) == [(text_key("a"), {"title": None})]

    async def test_an_older_definition_is_refused(self, subject: Subject) -> None:
        old = subject.table
        await subject.alter(old, SchemaChange("redefine"))
        await subject.backend.alter(subject.table, SchemaChange("redefine"))
        for change in (SchemaChange("redefine"), SchemaChange("drop_table"), SchemaChange("create_table")):
            with pytest.raises(StaleGeneration):
                await subject.backend.alter(old, change)
        await subject.put({"id": "still there"})

    @pytest.mark.parametrize("step", [-1, 1])
    async def test_a_write_of_another_generation_is_refused_whole(self, subject: Subject, step: int) -> None:
        await subject.alter(subject.table, SchemaChange("redefine"))
        await subject.put({"id": "a"})
        batch = WriteBatch(
            subject.table.generation + step,
            [put({"id": "b"})],
            [Delete(text_key("a"))],
            [CellWrite(text_key("a"), subject.table.column("emb").version.id, b"w", set_want=True)],
            {"receipt": b"x"},
        )
        with pytest.raises(StaleGeneration):
            await subject.backend.write(subject.table, batch)
        assert await subject.ids() == {"a"}
        assert await subject.backend.receipt(subject.table, "receipt") is None

    async def test_a_staged_version_starts_empty_beside_the_active_one(self, subject: Subject) -> None:
        column = subject.table.column("auto")
        await subject.put({"id": "a"}, wants={column.version.id: b"w"}, vectors={column.version.id: VECTOR})
        staged = Version(dimensions=4, identity="m@2")
        await subject.alter(*_with_version(subject.table, column, staged))
        assert await subject.cells(staged, "a") == [Cell()]
        assert await subject.cells(column.version, "a") == [Cell(b"w", b"w", VECTOR)]
        assert (await subject.states(staged))["empty"] == 1
        await subject.put({"id": "b"}, wants={column.version.id: b"w", staged.id: b"s"})
        assert [c.state for c in await subject.cells(staged, "a", "b")] == ["empty", "new"]

    async def test_a_discarded_version_takes_its_cells_along(self, subject: Subject) -> None:
        column = subject.table.column("auto")
        staged = Version(dimensions=4, identity="m@2")
        before = subject.table
        await subject.alter(*_with_version(before, column, staged))
        await subject.put({"id": "a"}, wants={column.version.id: b"w", staged.id: b"s"})
        change = SchemaChange("discard_version", column=column, version=staged)
        await subject.alter(before, change)
        await subject.backend.alter(subject.table, change)
        assert [c.want for c in await subject.cells(column.version, "a")] == [b"w"]
        await subject.alter(*_with_version(before, column, staged))
        assert await subject.cells(staged, "a") == [Cell()]

    async def test_vector_columns_come_and_go(self, subject: Subject) -> None:
        await subject.put({"id": "a"})
        version = Version(dimensions=4)
        column = Column(name="more", type=ColumnType.VECTOR, versions=(version,), active=version.id)
        before = subject.table
        wider = before.model_copy(update={"columns": (*before.columns, column)})
        await subject.alter(wider, SchemaChange("add_column", column=column))
        assert await subject.cell("a", version, b"given", vector=VECTOR, set_want=True)
        assert [c.state for c in await subject.cells(version, "a")] == ["ready"]
        await subject.alter(before, SchemaChange("drop_column", column=column))
        assert await subject.ids() == {"a"}

    async def test_many_columns(self, backend: Backend) -> None:
        columns = [Column(name="id", type=ColumnType.STRING, nullable=False)]
        columns += [Column(name=f"c{i}", type=ColumnType.INT) for i in range(999)]
        table = Table(name="wide", key=(columns[0].id,), columns=tuple(columns))
        subject = await Subject.create(backend, table)
        row = {"id": "a", **{f"c{i}": i for i in range(999)}}
        await subject.put(row)
        assert await subject.rows() == [(text_key("a"), row)]

    async def test_keys_of_several_parts(self, backend: Backend) -> None:
        columns = (
            Column(name="shard", type=ColumnType.INT, nullable=False),
            Column(name="id", type=ColumnType.STRING, nullable=False),
        )
        table = Table(name="parts", key=tuple(c.id for c in columns), columns=columns)
        subject = await Subject.create(backend, table)
        keys = [(-5, "z"), (0, ""), (0, "'"), (1, "a"), (1, "a\uffff"), (1, "a\U00010000"), (2**40, "é")]
        puts = [Put(encode_key(k), {"shard": k[0], "id": k[1]}) for k in reversed(keys)]
        await subject.write(puts)
        assert [(r["shard"], r["id"]) for _, r in await subject.rows()] == keys

    async def test_a_scalar_index_changes_no_answer(self, subject: Subject) -> None:
        await subject.put(*every_type_rows(subject.table))
        expected = await subject.rows(columns=["id"])
        column = subject.table.column("stars")
        index = Index(name="by_stars", column=column.id, type="btree")
        indexed = subject.table.model_copy(update={"indexes": (index,)})
        if not subject.backend.capabilities.scalar_indexes:
            with pytest.raises(Unsupported):
                await subject.alter(indexed, SchemaChange("create_index", index=index))
            await subject.put({"id": "still the old generation"})
            return
        plain = subject.table
        change = SchemaChange("create_index", index=index)
        await subject.alter(indexed, change)
        await subject.backend.alter(subject.table, change)
        assert await subject.rows(columns=["id"]) == expected
        change = SchemaChange("drop_index", index=index)
        await subject.alter(plain, change)
        await subject.backend.alter(subject.table, change)
        assert await subject.rows(columns=["id"]) == expected

    async def test_a_vector_index_the_backend_does_not_build_is_unsupported(self, subject: Subject) -> None:
        column = subject.table.column("emb")
        for method in ("hnsw", "ivfflat", "ivfpq"):
            if method in subject.backend.capabilities.index_kinds:
                continue
            index = Index(
                id=new_id(),
                name=f"by_{method}",
                column=column.id,
                type="vector",
                method=method,
                version=column.active,
            )
            indexed = subject.table.model_copy(update={"indexes": (index,)})
            with pytest.raises(Unsupported):
                await subject.alter(indexed, SchemaChange("create_index", index=index))
        await subject.put({"id": "still the old generation"})


def _with_version(table: Table, column: Column, version: Version) -> tuple[Table, SchemaChange]:
    both = column.model_copy(update={"versions": (*column.versions, version)})
    columns = tuple(both if c.id == column.id else c for c in table.columns)
    change = SchemaChange("stage_version", column=both, version=version)
    return table.model_copy(update={"columns": columns}), change
