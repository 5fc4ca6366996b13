"""Rows written: values, guards, outcomes, revisions, receipts, order within a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from vectable.core.cell import GIVEN, Cell
from vectable.core.puts import PutColumns, StoredVectors
from vectable.core.rows import CellWrite, Delete, Put
from vectable.errors import KeyExists
from vectable.testing.backend_suite.fixtures import Reopen, SuiteFixtures
from vectable.testing.backend_suite.subject import Subject, put, same
from vectable.testing.samples import HOSTILE_STRINGS, every_type_rows, text_key


class WriteTests(SuiteFixtures):
    async def test_every_value_comes_back_as_it_went_in(self, subject: Subject) -> None:
        rows = every_type_rows(subject.table, 120)
        await subject.put(*rows)
        expected = {text_key(row["id"]): row for row in rows}
        found = dict(await subject.rows())
        assert found.keys() == expected.keys()
        for key, row in expected.items():
            wrong = [name for name in row if not same(found[key][name], row[name])]
            assert not wrong, {name: (found[key][name], row[name]) for name in wrong}

    @pytest.mark.parametrize("gaps", [False, True])
    async def test_many_rows_by_column(self, subject: Subject, gaps: bool) -> None:
        (_, version), *_ = subject.table.versions
        rows = every_type_rows(subject.table, 60)
        keys = [text_key(row["id"]) for row in rows]
        vectors = StoredVectors(np.arange(1, 60 * version.dimensions + 1, dtype="<f4").reshape(60, -1))
        wants: list[bytes | None] = [GIVEN] * 60
        if gaps:
            for i in range(0, 60, 3):
                vectors.put(i, None)
                wants[i] = b"to be embedded" if i % 2 else None
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        puts = PutColumns(keys, columns, {version.id: wants}, {version.id: vectors}, "absent")
        receipt = await subject.write(puts)
        assert receipt.outcomes == ["inserted"] * 60
        found = dict(await subject.rows())
        for key, row in zip(keys, rows, strict=True):
            assert all(same(found[key][name], row[name]) for name in row)
        expected = [
            Cell(want, None if vector is None else want, vector)
            for want, vector in zip(wants, vectors, strict=True)
        ]
        assert await subject.cells(version, *(row["id"] for row in rows)) == expected
        with pytest.raises(KeyExists):
            await subject.write(puts)

    async def test_types_inside_json_survive(self, subject: Subject) -> None:
        value: Any = {"b": True, "i": 1, "f": 1.5, "n": None, "z": [False, 0, "0", [], {}], "big": 2**62 + 1}
        await subject.put({"id": "a", "meta": value})
        ((_, row),) = await subject.rows(columns=["meta"])
        assert same(row["meta"], value)
        assert type(row["meta"]["i"]) is int
        assert row["meta"]["b"] is True

    async def test_hostile_text_in_keys_and_values(self, subject: Subject) -> None:
        await subject.put(
            *({"id": text, "title": text, "order": text} for text in HOSTILE_STRINGS if len(text) < 900)
        )
        for key, row in await subject.rows(columns=["id", "title", "order"]):
            assert row["id"] == row["title"] == row["order"]
            assert key == text_key(row["id"])
        assert len(await subject.rows()) == len([t for t in HOSTILE_STRINGS if len(t) < 900])

    async def test_very_long_text(self, subject: Subject) -> None:
        text = "é'\U0001f980 " * 250_000
        await subject.put({"id": "a", "title": text, "meta": {"text": text}, "tags": [text]})
        ((_, row),) = await subject.rows(columns=["title", "meta", "tags"])
        assert row == {"title": text, "meta": {"text": text}, "tags": [text]}

    async def test_what_was_read_is_the_reader_s_own(self, subject: Subject) -> None:
        mine: dict[str, Any] = {"id": "a", "meta": {"list": [1]}, "tags": ["a"]}
        await subject.put(mine)
        mine["meta"]["list"].append(2)
        mine["tags"].append("b")
        ((_, row),) = await subject.rows(columns=["meta", "tags"])
        assert row == {"meta": {"list": [1]}, "tags": ["a"]}
        row["meta"]["list"].append(3)
        ((_, again),) = await subject.rows(columns=["meta", "tags"])
        assert again == {"meta": {"list": [1]}, "tags": ["a"]}

    async def test_a_put_replaces_the_whole_row(self, subject: Subject) -> None:
        assert (await subject.put({"id": "a", "title": "x", "stars": 1})).outcomes == ["inserted"]
        assert (await subject.put({"id": "a", "stars": 2})).outcomes == ["replaced"]
        assert await subject.rows(columns=["title", "stars"]) == [
            (text_key("a"), {"title": None, "stars": 2})
        ]

    async def test_skipping_leaves_the_row_alone(self, subject: Subject) -> None:
        await subject.put({"id": "a", "title": "first"})
        receipt = await subject.put({"id": "a", "title": "second"}, {"id": "b"}, guard="skip")
        assert list(receipt.outcomes) == ["skipped", "inserted"]
        assert await subject.rows(columns=["title"]) == [
            (text_key("a"), {"title": "first"}),
            (text_key("b"), {"title": None}),
        ]

    async def test_a_key_that_must_be_absent(self, subject: Subject) -> None:
        await subject.put({"id": "it's", "title": "first"}, guard="absent")
        with pytest.raises(KeyExists) as caught:
            await subject.put({"id": "it's", "title": "second"}, guard="absent")
        assert len(caught.value.context["keys"]) == 1
        assert await subject.rows(columns=["title"]) == [(text_key("it's"), {"title": "first"})]

    async def test_many_new_rows_at_once_are_as_if_put_one_by_one(self, subject: Subject) -> None:
        def puts(rows: Sequence[dict[str, Any]], prefix: str) -> list[Put]:
            made = []
            for i, row in enumerate(rows):
                wants = {version.id: b"given" if i % 3 else None for _, version in subject.table.versions}
                given = {v: np.full(4, i, "<f4").tobytes() for v, want in wants.items() if want and i % 2}
                row = {**row, "id": prefix + row["id"]}
                made.append(put(row, wants=wants, vectors=given, guard="absent"))
            return made

        rows = every_type_rows(subject.table, 120)
        for each in puts(rows, "one "):
            await subject.write([each])
        receipt = await subject.write(puts(rows, "all "), receipts={"r": b"1"})
        assert list(receipt.outcomes) == ["inserted"] * len(rows)
        assert await subject.backend.receipt(subject.table, "r") == b"1"
        ids = [row["id"] for row in rows]
        names = [c.name for c in subject.table.stored_columns if c.name != "id"]
        versions = [version.id for _, version in subject.table.versions]
        one = await subject.get(*("one " + i for i in ids), columns=names, versions=versions)
        many = await subject.get(*("all " + i for i in ids), columns=names, versions=versions)
        for left, right in zip(one.rows(), many.rows(), strict=True):
            assert not [name for name in names if not same(left[name], right[name])]
        assert many.cells == one.cells
        assert None not in many.revisions

    async def test_many_new_rows_of_which_one_exists(self, subject: Subject) -> None:
        await subject.put({"id": "7", "title": "first"})
        with pytest.raises(KeyExists) as caught:
            await subject.put(*({"id": str(i)} for i in range(60)), guard="absent")
        assert caught.value.context["keys"] == ["7"]
        if subject.backend.capabilities.atomic_batch:
            assert await subject.rows(columns=["title"]) == [(text_key("7"), {"title": "first"})]

    async def test_a_refused_batch_lands_nothing_where_batches_are_atomic(self, subject: Subject) -> None:
        await subject.put({"id": "a", "title": "first"}, {"id": "z", "title": "first"})
        mark = await subject.position()
        batch = [put({"id": "new"}), put({"id": "a", "title": "second"}), put({"id": "z"}, guard="absent")]
        with pytest.raises(KeyExists):
            await subject.write(batch, [Delete(text_key("a"))], receipts={"r": b"1"})
        assert await subject.backend.receipt(subject.table, "r") is None
        if subject.backend.capabilities.atomic_batch:
            assert [r["title"] for _, r in await subject.rows(columns=["title"])] == ["first", "first"]
            assert await subject.changes(mark) == set()

    async def test_of_two_puts_that_must_be_absent_in_one_batch_none_wins_silently(
        self, subject: Subject
    ) -> None:
        with pytest.raises(KeyExists):
            await subject.put({"id": "a", "stars": 1}, {"id": "a", "stars": 2}, guard="absent")

    async def test_deletes_say_what_they_found(self, subject: Subject) -> None:
        await subject.put({"id": "a"}, {"id": "b"})
        receipt = await subject.write(
            [put({"id": "c"})], [Delete(text_key("a")), Delete(text_key("missing")), Delete(text_key("a"))]
        )
        assert list(receipt.outcomes) == ["inserted", "deleted", "missing", "missing"]
        assert await subject.ids() == {"b", "c"}

    async def test_a_revision_guards_a_put(self, subject: Subject) -> None:
        await subject.put({"id": "a", "stars": 1})
        old = await subject.revision("a")
        assert (await subject.put({"id": "a", "stars": 2}, revision=old)).outcomes == ["replaced"]
        assert (await subject.put({"id": "a", "stars": 3}, revision=old)).outcomes == ["changed"]
        assert (await subject.put({"id": "missing", "stars": 3}, revision=old)).outcomes == ["changed"]
        assert await subject.rows(columns=["stars"]) == [(text_key("a"), {"stars": 2})]

    async def test_a_revision_guards_a_delete(self, subject: Subject) -> None:
        await subject.put({"id": "a"})
        old = await subject.revision("a")
        await subject.put({"id": "a"})
        assert (await subject.write(deletes=[Delete(text_key("a"), old)])).outcomes == ["changed"]
        assert await subject.ids() == {"a"}
        current = await subject.revision("a")
        assert (await subject.write(deletes=[Delete(text_key("a"), current)])).outcomes == ["deleted"]
        receipt = await subject.write(deletes=[Delete(text_key("a"), current)])
        assert receipt.outcomes[0] in ("missing", "changed")

    async def test_a_changed_row_does_not_hold_up_its_neighbours(self, subject: Subject) -> None:
        await subject.put({"id": "a", "stars": 1}, {"id": "b", "stars": 1})
        a, b = await subject.revision("a"), await subject.revision("b")
        await subject.put({"id": "a", "stars": 2})
        receipt = await subject.write(
            [put({"id": "a", "stars": 3}, revision=a), put({"id": "b", "stars": 3}, revision=b)]
        )
        assert list(receipt.outcomes) == ["changed", "replaced"]
        assert [r["stars"] for _, r in await subject.rows(columns=["stars"])] == [2, 3]

    async def test_a_changed_put_brings_no_cells_along(self, subject: Subject) -> None:
        version = subject.table.column("auto").version
        await subject.put({"id": "a"}, wants={version.id: b"first"})
        old = await subject.revision("a")
        await subject.put({"id": "a"}, wants={version.id: b"second"})
        await subject.put({"id": "a"}, wants={version.id: b"third"}, revision=old)
        assert [c.want for c in await subject.cells(version, "a")] == [b"second"]

    async def test_a_revision_never_comes_back(self, subject: Subject) -> None:
        seen = []
        for _ in range(3):
            await subject.put({"id": "a", "stars": 1})
            seen.append(await subject.revision("a"))
            await subject.put({"id": "a", "stars": 1})
            seen.append(await subject.revision("a"))
            await subject.write(deletes=[Delete(text_key("a"))])
        assert len(set(seen)) == 6

    async def test_writes_to_cells_leave_the_revision_alone(self, subject: Subject) -> None:
        version = subject.table.column("auto").version
        await subject.put({"id": "a"}, wants={version.id: b"w"})
        before = await subject.revision("a")
        assert await subject.cell("a", version, b"w", vector=b"\x00\x00\x80?" * 4)
        assert await subject.cell("a", version, b"v", set_want=True)
        assert await subject.revision("a") == before

    async def test_a_batch_happens_in_order(self, subject: Subject) -> None:
        version = subject.table.column("auto").version
        receipt = await subject.write(
            [
                put({"id": "a", "stars": 1}),
                put({"id": "a", "stars": 2}, wants={version.id: b"w"}),
                put({"id": "b"}),
            ],
            [Delete(text_key("b"))],
            [
                CellWrite(text_key("a"), version.id, b"w", vector=b"\x00\x00\x80?" * 4),
                CellWrite(text_key("b"), version.id, b"w", set_want=True),
            ],
        )
        assert list(receipt.outcomes) == ["inserted", "replaced", "inserted", "deleted"]
        assert receipt.cells_written == 1
        assert await subject.rows(columns=["stars"]) == [(text_key("a"), {"stars": 2})]
        assert [c.state for c in await subject.cells(version, "a")] == ["ready"]

    async def test_an_empty_batch_is_fine(self, subject: Subject) -> None:
        receipt = await subject.write()
        assert (list(receipt.outcomes), receipt.cells_written) == ([], 0)
        assert await subject.ids() == set()

    async def test_receipts_are_kept_with_the_write(self, subject: Subject) -> None:
        for name in HOSTILE_STRINGS[:40]:
            await subject.write([put({"id": "a"})], receipts={name: name.encode(), name + "2": b"\x00\xff"})
        for name in HOSTILE_STRINGS[:40]:
            assert await subject.backend.receipt(subject.table, name) == name.encode()
            assert await subject.backend.receipt(subject.table, name + "2") == b"\x00\xff"
        assert await subject.backend.receipt(subject.table, "never") is None

    async def test_large_batches_and_many_keys(self, subject: Subject) -> None:
        ids = [f"{i:05d}" for i in range(2_500)]
        receipt = await subject.put(*({"id": i, "stars": int(i)} for i in ids))
        assert list(receipt.outcomes) == ["inserted"] * len(ids)
        found = await subject.get(*reversed(ids), columns=["stars"])
        assert list(found.columns["stars"]) == list(range(2_499, -1, -1))
        receipt = await subject.write(deletes=[Delete(text_key(i)) for i in ids[1:]])
        assert list(receipt.outcomes) == ["deleted"] * (len(ids) - 1)
        assert await subject.ids() == {"00000"}

    async def test_acknowledged_writes_outlive_the_backend(
        self, subject: Subject, reopen: Reopen | None
    ) -> None:
        if reopen is None:
            pytest.skip("nothing outlives this backend")
        version = subject.table.column("auto").version
        rows = every_type_rows(subject.table)
        await subject.put(*rows)
        await subject.write(
            [Put(text_key("new"), {"id": "new"}, {version.id: b"w"}, {version.id: b"\x00\x00\x80?" * 4})],
            [Delete(text_key(rows[0]["id"]))],
            receipts={"r": b"answer"},
        )
        expected = await subject.rows()
        revision = await subject.revision("new")
        mark = await subject.position()
        again = Subject(await reopen(), subject.table, subject.mark)
        assert await again.rows() == expected
        assert [c.state for c in await again.cells(version, "new")] == ["ready"]
        assert await again.backend.receipt(again.table, "r") == b"answer"
        assert await again.revision("new") == revision
        await again.put({"id": "later"})
        assert text_key("later") in await again.changes(mark)
