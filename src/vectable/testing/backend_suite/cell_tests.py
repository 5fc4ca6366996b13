"""Cells: what a row wants embedded and what it has, through every step of their life."""

from __future__ import annotations

from typing import Any

import pytest

from vectable.core.cell import CELL_STATES, Cell
from vectable.core.predicate import Clause
from vectable.core.rows import CellWrite, Delete
from vectable.core.schema import Version
from vectable.core.vectors import to_bytes
from vectable.testing.backend_suite.fixtures import SuiteFixtures
from vectable.testing.backend_suite.subject import Subject, put
from vectable.testing.samples import clustered_vectors, text_key

V1, V2 = (to_bytes(v) for v in clustered_vectors(2, 4))
ODD = bytes(range(256))
"""Content keys are any bytes."""


class CellTests(SuiteFixtures):
    @pytest.fixture
    def version(self, subject: Subject) -> Version:
        return subject.table.column("auto").version

    async def one(self, subject: Subject, version: Version) -> Cell:
        return (await subject.cells(version, "a"))[0]

    async def test_a_row_without_wants_has_empty_cells(self, subject: Subject, version: Version) -> None:
        await subject.put({"id": "a"})
        assert await self.one(subject, version) == Cell()

    async def test_from_new_to_ready(self, subject: Subject, version: Version) -> None:
        await subject.put({"id": "a"}, wants={version.id: ODD})
        assert await self.one(subject, version) == Cell(want=ODD)
        assert await subject.cell("a", version, ODD, vector=V1)
        assert await self.one(subject, version) == Cell(ODD, ODD, V1)

    async def test_a_changed_want_makes_it_stale_and_keeps_the_old_vector(
        self, subject: Subject, version: Version
    ) -> None:
        await subject.put({"id": "a"}, wants={version.id: b"1"}, vectors={version.id: V1})
        await subject.put({"id": "a"}, wants={version.id: b"2"})
        cell = await self.one(subject, version)
        assert (cell, cell.state) == (Cell(want=b"2", have=b"1", vector=V1), "stale")
        assert await subject.cell("a", version, b"2", vector=V2)
        assert await self.one(subject, version) == Cell(b"2", b"2", V2)

    async def test_a_want_that_comes_back_is_ready_at_once(self, subject: Subject, version: Version) -> None:
        await subject.put({"id": "a"}, wants={version.id: b"1"}, vectors={version.id: V1})
        await subject.put({"id": "a"}, wants={version.id: b"2"})
        await subject.put({"id": "a"}, wants={version.id: b"1"})
        assert await self.one(subject, version) == Cell(b"1", b"1", V1)

    async def test_the_same_want_keeps_the_cell(self, subject: Subject, version: Version) -> None:
        await subject.put({"id": "a"}, wants={version.id: b"1"}, vectors={version.id: V1})
        await subject.put({"id": "a", "stars": 1}, wants={version.id: b"1"})
        assert await self.one(subject, version) == Cell(b"1", b"1", V1)
        await subject.put({"id": "b"}, wants={version.id: b"1"})
        await subject.cell("b", version, b"1", error="broke")
        await subject.put({"id": "b"}, wants={version.id: b"1"})
        assert await subject.cells(version, "b") == [Cell(want=b"1", error="broke", attempts=1)]

    async def test_a_version_left_out_keeps_its_cell(self, subject: Subject, version: Version) -> None:
        await subject.put({"id": "a"}, wants={version.id: b"1"}, vectors={version.id: V1})
        await subject.put({"id": "a", "stars": 2})
        assert await self.one(subject, version) == Cell(b"1", b"1", V1)

    async def test_nothing_to_embed_empties_the_cell(self, subject: Subject, version: Version) -> None:
        await subject.put({"id": "a"}, wants={version.id: b"1"}, vectors={version.id: V1})
        await subject.put({"id": "a"}, wants={version.id: None})
        assert await self.one(subject, version) == Cell()
        assert not await subject.cell("a", version, b"1", vector=V1)
        await subject.put({"id": "a"}, wants={version.id: b"1"})
        assert await self.one(subject, version) == Cell(want=b"1")

    async def test_a_slow_embed_never_overwrites_a_newer_row(
        self, subject: Subject, version: Version
    ) -> None:
        await subject.put({"id": "a"}, wants={version.id: b"1"})
        await subject.put({"id": "a"}, wants={version.id: b"2"})
        assert not await subject.cell("a", version, b"1", vector=V1)
        assert not await subject.cell("a", version, b"1", error="late")
        assert not await subject.cell("a", version, b"1", clear=True)
        assert await self.one(subject, version) == Cell(want=b"2")

    async def test_vectors_given_with_the_row_replace_the_old(self, subject: Subject) -> None:
        version = subject.table.column("emb").version
        await subject.put({"id": "a"}, wants={version.id: b"given"}, vectors={version.id: V1})
        await subject.put({"id": "a"}, wants={version.id: b"given"}, vectors={version.id: V2})
        assert await self.one(subject, version) == Cell(b"given", b"given", V2)

    async def test_errors_count_attempts(self, subject: Subject, version: Version) -> None:
        await subject.put({"id": "a"}, wants={version.id: b"1"})
        assert await subject.cell("a", version, b"1", error="it's broken: 100% é")
        assert await self.one(subject, version) == Cell(b"1", error="it's broken: 100% é", attempts=1)
        assert await subject.cell("a", version, b"1", error="again")
        cell = await self.one(subject, version)
        assert (cell, cell.state) == (Cell(b"1", error="again", attempts=2), "error")

    async def test_a_vector_ends_an_error(self, subject: Subject, version: Version) -> None:
        await subject.put({"id": "a"}, wants={version.id: b"1"})
        await subject.cell("a", version, b"1", error="broke")
        await subject.cell("a", version, b"1", vector=V1)
        assert await self.one(subject, version) == Cell(b"1", b"1", V1)

    async def test_a_changed_want_ends_an_error(self, subject: Subject, version: Version) -> None:
        await subject.put({"id": "a"}, wants={version.id: b"1"}, vectors={version.id: V1})
        await subject.put({"id": "a"}, wants={version.id: b"2"})
        await subject.cell("a", version, b"2", error="broke")
        assert await self.one(subject, version) == Cell(b"2", b"1", V1, "broke", 1)
        await subject.put({"id": "a"}, wants={version.id: b"3"})
        assert await self.one(subject, version) == Cell(b"3", b"1", V1)

    async def test_clearing_forgets_everything_but_the_want(self, subject: Subject, version: Version) -> None:
        await subject.put({"id": "a"}, wants={version.id: b"1"}, vectors={version.id: V1})
        mark = await subject.position()
        assert await subject.cell("a", version, b"1", clear=True)
        assert await self.one(subject, version) == Cell(want=b"1")
        assert text_key("a") in await subject.changes(mark)
        await subject.cell("a", version, b"1", error="broke")
        assert await subject.cell("a", version, b"1", clear=True)
        assert await self.one(subject, version) == Cell(want=b"1")

    async def test_a_want_set_by_a_backfill(self, subject: Subject, version: Version) -> None:
        await subject.put({"id": "a"}, {"id": "b"})
        assert await subject.cell("a", version, b"1", set_want=True)
        assert await self.one(subject, version) == Cell(want=b"1")
        assert await subject.cell("b", version, b"1", set_want=True, vector=V1)
        assert await subject.cells(version, "b") == [Cell(b"1", b"1", V1)]
        assert await subject.cell("b", version, b"2", set_want=True)
        assert await subject.cells(version, "b") == [Cell(b"2", b"1", V1)]
        assert await subject.cell("b", version, b"2", set_want=True, error="broke")
        assert await subject.cells(version, "b") == [Cell(b"2", b"1", V1, "broke", 1)]
        assert await subject.cell("b", version, None, set_want=True)
        assert await subject.cells(version, "b") == [Cell()]

    async def test_setting_the_same_want_keeps_the_cell(self, subject: Subject, version: Version) -> None:
        await subject.put({"id": "a"}, wants={version.id: b"1"}, vectors={version.id: V1})
        assert await subject.cell("a", version, b"1", set_want=True)
        assert await self.one(subject, version) == Cell(b"1", b"1", V1)

    async def test_a_backfill_never_overtakes_a_newer_row(self, subject: Subject, version: Version) -> None:
        await subject.put({"id": "a"})
        read = await subject.revision("a")
        await subject.put({"id": "a"}, wants={version.id: b"new"})
        assert not await subject.cell("a", version, b"old", set_want=True, vector=V1, revision=read)
        assert await self.one(subject, version) == Cell(want=b"new")
        current = await subject.revision("a")
        assert await subject.cell("a", version, b"new", set_want=True, vector=V2, revision=current)
        assert await self.one(subject, version) == Cell(b"new", b"new", V2)
        assert not await subject.cell("a", version, b"new", clear=True, revision=read)

    @pytest.mark.parametrize("options", [{"set_want": True}, {"vector": V1}, {"error": "e"}, {"clear": True}])
    async def test_a_row_that_is_gone_gets_no_cells(
        self, subject: Subject, version: Version, options: dict[str, Any]
    ) -> None:
        await subject.put({"id": "a"}, wants={version.id: b"1"})
        await subject.write(deletes=[Delete(text_key("a"))])
        assert not await subject.cell("a", version, b"1", **options)
        assert sum((await subject.states(version)).values()) == 0
        await subject.put({"id": "a"})
        assert await self.one(subject, version) == Cell()

    async def test_a_row_made_again_starts_afresh(self, subject: Subject, version: Version) -> None:
        await subject.put({"id": "a"}, wants={version.id: b"1"}, vectors={version.id: V1})
        await subject.write(deletes=[Delete(text_key("a"))])
        await subject.put({"id": "a"}, wants={version.id: b"2"})
        assert await self.one(subject, version) == Cell(want=b"2")

    async def test_many_cells_in_one_batch(self, subject: Subject, version: Version) -> None:
        ids = [f"{i:04d}" for i in range(1_200)]
        await subject.put(*({"id": i} for i in ids), wants={version.id: b"1"})
        writes = [CellWrite(text_key(i), version.id, b"1" if int(i) % 2 else b"0", vector=V1) for i in ids]
        assert (await subject.write(cells=writes)).cells_written == 600
        assert await subject.states(version) == {**dict.fromkeys(CELL_STATES, 0), "ready": 600, "new": 600}

    async def test_states_are_counted_filtered_and_read(self, subject: Subject, version: Version) -> None:
        expected = await in_every_state(subject, version)
        assert await subject.states(version) == {**dict.fromkeys(CELL_STATES, 1), "empty": 2}
        for state in CELL_STATES:
            where = Clause(column="auto.state", operator="=", value=state)
            assert await subject.ids(where) == {row for row, found in expected.items() if found == state}
            where = Clause(column="auto.state", operator="!=", value=state)
            assert await subject.ids(where) == {row for row, found in expected.items() if found != state}
        where = Clause(column="auto.state", operator="in", value=("new", "stale"))
        assert await subject.ids(where) == {"new", "stale"}
        read = await subject.rows(columns=["id", "auto.state"])
        assert {row["id"]: row["auto.state"] for _, row in read} == expected

    async def test_vector_columns_read_as_bytes_or_null(self, subject: Subject, version: Version) -> None:
        await in_every_state(subject, version)
        held = {"ready", "stale"}
        read = {row["id"]: row["auto"] for _, row in await subject.rows(columns=["id", "auto"])}
        assert {row for row, vector in read.items() if vector is not None} == held
        assert read["ready"] == V1
        assert await subject.ids(Clause(column="auto", operator="is not null")) == held
        assert await subject.ids(Clause(column="auto", operator="is null")) == set(read) - held


async def in_every_state(subject: Subject, version: Version) -> dict[str, str]:
    """Rows named for the state of their cell, and one ("none") whose cell was never written."""
    v = version.id
    await subject.write(
        [
            put({"id": "ready"}, wants={v: b"1"}, vectors={v: V1}),
            put({"id": "new"}, wants={v: b"1"}),
            put({"id": "stale"}, wants={v: b"0"}, vectors={v: V2}),
            put({"id": "error"}, wants={v: b"1"}),
            put({"id": "empty"}, wants={v: None}),
            put({"id": "none"}),
        ]
    )
    await subject.put({"id": "stale"}, wants={v: b"1"})
    await subject.cell("error", version, b"1", error="broke")
    return {**{state: state for state in CELL_STATES}, "none": "empty"}
