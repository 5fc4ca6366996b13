"""Changes: whatever happened after a mark is told, perhaps more than once, never not at all."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectable.core.mark import Mark
from vectable.core.rows import Delete, RecordBatch
from vectable.core.schema import new_id
from vectable.core.vectors import to_bytes
from vectable.errors import MarkExpired
from vectable.interfaces import Backend, SchemaChange
from vectable.testing.backend_suite.fixtures import PROPERTY, SuiteFixtures
from vectable.testing.backend_suite.subject import Subject
from vectable.testing.samples import clustered_vectors, every_type_table, text_key, vector_column

VECTOR = to_bytes(clustered_vectors(1, 4)[0])


class ChangeTests(SuiteFixtures):
    async def test_puts_deletes_and_vectors_are_told(self, subject: Subject) -> None:
        version = subject.table.column("auto").version
        await subject.put(*({"id": i} for i in "abcdef"), wants={version.id: b"1"})
        start = await subject.position()
        await subject.put({"id": "a", "stars": 1}, {"id": "new"})
        await subject.write(deletes=[Delete(text_key("b"))])
        await subject.cell("c", version, b"1", vector=VECTOR)
        await subject.cell("d", version, b"2", set_want=True)
        told = await subject.changes(start)
        assert {text_key(i) for i in ("a", "new", "b", "c", "d")} <= told

    async def test_nothing_since_now(self, subject: Subject) -> None:
        await subject.put({"id": "a"})
        now = await subject.position()
        assert await subject.changes(now) <= {text_key("a")}

    async def test_a_row_deleted_and_made_again_is_told(self, subject: Subject) -> None:
        await subject.put({"id": "a"})
        start = await subject.position()
        await subject.write(deletes=[Delete(text_key("a"))])
        between = await subject.position()
        await subject.put({"id": "a"})
        assert await subject.changes(start) == {text_key("a")}
        assert await subject.changes(between) == {text_key("a")}

    async def test_many_changes(self, subject: Subject) -> None:
        ids = [f"{i:05d}" for i in range(2_500)]
        await subject.put(*({"id": i} for i in ids))
        start = await subject.position()
        await subject.put(*({"id": i, "stars": 1} for i in ids[:1_200]))
        await subject.write(deletes=[Delete(text_key(i)) for i in ids[1_200:]])
        assert await subject.changes(start) == {text_key(i) for i in ids}

    async def test_the_mark_of_a_write_includes_it(self, subject: Subject) -> None:
        first = await subject.put({"id": "a"})
        await subject.put({"id": "b"})
        assert text_key("b") in await subject.changes(first.mark)
        async with subject.backend.view(subject.table, first.mark) as view:
            assert len(await view.get([text_key("a")], [])) == 1

    async def test_rows_are_given_without_a_view_only_while_nothing_changed(self, subject: Subject) -> None:
        version = subject.table.column("auto").version
        await subject.put(*({"id": i, "stars": 3} for i in "abc"), wants={version.id: b"1"})
        keys = [text_key(i) for i in ("c", "nobody", "a")]

        async def given(since: Mark | None) -> RecordBatch | None:
            asked = (keys, ["id", "stars"], [version.id])
            return await subject.backend.get_unchanged(subject.table, since, *asked)

        async def now() -> tuple[Mark, RecordBatch]:
            async with subject.backend.view(subject.table, subject.mark) as view:
                return view.mark, await view.get(keys, ["id", "stars"], [version.id])

        before, there = await now()
        found = await given(before)
        if found is not None:
            assert (list(found.keys), found.columns, found.cells) == (
                list(there.keys),
                there.columns,
                there.cells,
            )
            assert list(found.revisions) == list(there.revisions)
            for columns in ["id"], []:
                proof = await subject.backend.get_unchanged(subject.table, before, [], columns)
                assert proof is not None
                assert list(proof.keys) == []
        for change in (
            lambda: subject.put({"id": "other"}),
            lambda: subject.cell("a", version, b"1", vector=VECTOR),
            lambda: subject.write(deletes=[Delete(text_key("other"))]),
        ):
            before, _ = await now()
            await change()
            assert await given(before) is None
            assert await subject.backend.get_unchanged(subject.table, before, [], []) is None
        assert await given(Mark("nonsense")) is None
        _, there = await now()
        if (found := await given(None)) is not None:
            assert (list(found.keys), found.columns) == (list(there.keys), there.columns)
            none = await subject.backend.get_unchanged(subject.table, None, [text_key("nobody")], ["id"])
            assert none is not None
            assert list(none.keys) == []

    @pytest.mark.parametrize("value", ["", "0", "7", "-1", "nonsense", "'; drop", "\U0001f980", "9" * 40])
    async def test_a_foreign_mark_is_expired(self, subject: Subject, value: str) -> None:
        await subject.put({"id": "a"})
        with pytest.raises(MarkExpired):
            await subject.changes(Mark(value))

    async def test_a_mark_of_another_table_is_expired_or_tells_everything(self, subject: Subject) -> None:
        other = await Subject.create(subject.backend, every_type_table())
        await other.put({"id": "x"})
        await subject.put({"id": "a"})
        foreign = await other.position()
        try:
            told = await subject.changes(foreign)
        except MarkExpired:
            return
        assert told == {text_key("a")}

    async def test_housekeeping_loses_no_change_silently(self, subject: Subject) -> None:
        await subject.put({"id": "a"}, {"id": "b"})
        start = await subject.position()
        await subject.write(deletes=[Delete(text_key("a"))])
        await subject.position()
        await subject.backend.maintain()
        try:
            told = await subject.changes(start)
        except MarkExpired:
            return
        assert text_key("a") in told
        assert await subject.ids() == {"b"}

    @PROPERTY
    @given(data=st.data())
    async def test_following_changes_keeps_a_copy_true(self, backend: Backend, data: st.DataObject) -> None:
        table = every_type_table(vector_column("emb", 4)).model_copy(update={"id": new_id()})
        subject = await Subject.create(backend, table)
        dice = random.Random(data.draw(st.integers(0, 2**32)))
        copy: dict[bytes, int] = {}
        mark = await subject.position()
        for step in range(data.draw(st.integers(1, 12))):
            ids = dice.sample("abcdef", 2)
            if dice.random() < 0.6:
                await subject.put(*({"id": i, "stars": step} for i in ids))
            else:
                await subject.write(deletes=[Delete(text_key(i)) for i in ids])
            if dice.random() < 0.5:
                mark = await follow(subject, mark, copy)
        await follow(subject, mark, copy)
        assert copy == {key: row["stars"] for key, row in await subject.rows(columns=["stars"])}
        await backend.alter(table, SchemaChange("drop_table"))


async def follow(subject: Subject, mark: Mark, copy: dict[bytes, int]) -> Mark:
    """Brings `copy` up to date from `mark`, as a resident index does; the mark it is then at."""
    async with subject.backend.view(subject.table, subject.mark) as view:
        keys = list({key async for told in view.changes(mark) for key in told})
        found = await view.get(keys, ["stars"])
        for key in keys:
            copy.pop(key, None)
        copy.update(zip(found.keys, found.columns["stars"], strict=True))
        return view.mark
