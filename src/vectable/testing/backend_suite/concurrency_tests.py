"""Many at once: no write is lost or doubled, and a view does not move where views are promised not to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vectable.core.predicate import TRUE
from vectable.core.rows import CellWrite, Delete, WriteBatch
from vectable.core.schema import Table
from vectable.core.vectors import to_bytes
from vectable.errors import KeyExists, StaleGeneration
from vectable.interfaces import Backend, SchemaChange
from vectable.testing.backend_suite.fixtures import SuiteFixtures
from vectable.testing.backend_suite.subject import Subject, put
from vectable.testing.samples import clustered_vectors, text_key

VECTOR = to_bytes(clustered_vectors(1, 4)[0])


class ConcurrencyTests(SuiteFixtures):
    async def test_many_writers_lose_nothing(self, subject: Subject) -> None:
        async def writer(number: int) -> None:
            for i in range(6):
                await subject.put(*({"id": f"{number}-{i}-{j}", "stars": number} for j in range(5)))

        start = await subject.position()
        await asyncio.gather(*(writer(n) for n in range(8)))
        subject.mark = (await subject.put({"id": "last"})).mark
        expected = {f"{n}-{i}-{j}" for n in range(8) for i in range(6) for j in range(5)} | {"last"}
        assert await subject.ids() == expected
        assert await subject.changes(start) == {text_key(i) for i in expected}

    async def test_of_many_who_want_a_key_absent_one_wins(self, subject: Subject) -> None:
        async def attempt(number: int) -> bool:
            try:
                await subject.put({"id": "a", "stars": number}, guard="absent")
            except KeyExists:
                return False
            return True

        won = await asyncio.gather(*(attempt(n) for n in range(12)))
        assert won.count(True) == 1
        subject.mark = (await subject.put({"id": "later"})).mark
        found = dict(await subject.rows(columns=["stars"]))
        assert found[text_key("a")] == {"stars": won.index(True)}

    async def test_guarded_updates_lose_no_step(self, subject: Subject) -> None:
        subject.mark = (await subject.put({"id": "a", "stars": 0})).mark

        async def step() -> None:
            while True:
                found = await subject.get("a", columns=["stars"])
                row = {"id": "a", "stars": found.columns["stars"][0] + 1}
                receipt = await subject.put(row, revision=found.revisions[0])
                if receipt.outcomes == ["replaced"]:
                    return

        await asyncio.gather(*(step() for _ in range(10)))
        subject.mark = (await subject.put({"id": "later"})).mark
        assert (await subject.get("a", columns=["stars"])).columns["stars"][0] == 10

    async def test_slow_embeds_never_land_on_newer_rows(self, subject: Subject) -> None:
        version = subject.table.column("auto").version

        async def edit(number: int) -> None:
            await subject.put({"id": "a", "stars": number}, wants={version.id: bytes([number])})
            await asyncio.sleep(0)
            write = CellWrite(text_key("a"), version.id, bytes([number]), vector=bytes([number]) * 16)
            await subject.write(cells=[write])

        await asyncio.gather(*(edit(n) for n in range(1, 20)))
        subject.mark = (await subject.put({"id": "later"})).mark
        found = await subject.get("a", columns=["stars"], versions=[version.id])
        cell = found.cells[version.id][0]
        assert cell.want == bytes([found.columns["stars"][0]])
        assert cell.vector is None or cell.vector == (cell.have or b"") * 16
        assert (cell.state == "ready") == (cell.have == cell.want)

    async def test_a_view_does_not_move(self, subject: Subject) -> None:
        if subject.backend.capabilities.snapshot == "none":
            pytest.skip("views of this backend move, and say so")
        version = subject.table.column("emb").version
        ready: dict[str, Any] = {"wants": {version.id: b"given"}, "vectors": {version.id: VECTOR}}
        await subject.put({"id": "a", "stars": 1}, {"id": "b", "stars": 1}, **ready)
        everything = subject.backend.push(subject.table, TRUE)
        query = clustered_vectors(1, 4)[0]
        async with subject.backend.view(subject.table) as view:
            mark = view.mark
            await subject.put({"id": "a", "stars": 2}, {"id": "c", "stars": 2}, **ready)
            await subject.write(deletes=[Delete(text_key("b"))])
            found = await view.get([text_key(i) for i in "abc"], ["stars"], [version.id])
            assert list(found.keys) == [text_key("a"), text_key("b")]
            assert list(found.columns["stars"]) == [1, 1]
            scanned = [k async for batch in view.scan(everything, ["stars"]) for k in batch.keys]
            assert scanned == [text_key("a"), text_key("b")]
            assert await view.count(everything) == 2
            assert (await view.cell_states(version.id))["ready"] == 2
            nearest = await view.nearest(version, query, 10, everything)
            assert set(nearest.keys) == {text_key("a"), text_key("b")}
            assert view.mark == mark
            assert [key async for keys in view.changes(mark) for key in keys] == []
        assert await subject.ids() == {"a", "c"}

    async def test_a_new_view_sees_what_was_committed_before(self, subject: Subject) -> None:
        for number in range(20):
            receipt = await subject.put({"id": "a", "stars": number})
            promised = subject.backend.capabilities.snapshot != "none"
            async with subject.backend.view(subject.table, None if promised else receipt.mark) as view:
                found = await view.get([text_key("a")], ["stars"])
            assert found.columns["stars"][0] == number

    async def test_writing_while_scanning(self, subject: Subject) -> None:
        await subject.put(*({"id": f"{i:05d}", "stars": 0} for i in range(2_500)))
        seen: list[str] = []
        async with subject.backend.view(subject.table, subject.mark) as view:
            async for batch in view.scan(subject.backend.push(subject.table, TRUE), ["id"]):
                seen += batch.columns["id"]
                await subject.put({"id": "00000", "stars": len(seen)})
        assert len(seen) == len(set(seen)) == 2_500
        assert (await subject.get("00000", columns=["stars"])).columns["stars"][0] == 2_500

    async def test_a_view_left_early_holds_nothing_up(self, subject: Subject) -> None:
        await subject.put(*({"id": f"{i:05d}"} for i in range(2_100)))
        for _ in range(20):
            with pytest.raises(ZeroDivisionError):
                await _leave_early(subject)
        await subject.put({"id": "after"})
        assert "after" in await subject.ids()

    async def test_many_views_at_once(self, subject: Subject) -> None:
        await subject.put(*({"id": f"{i:03d}"} for i in range(50)))
        views = [subject.backend.view(subject.table, subject.mark) for _ in range(40)]
        opened = [await view.__aenter__() for view in views]
        counts = [await view.count(subject.backend.push(subject.table, TRUE)) for view in opened]
        await subject.put({"id": "meanwhile"})
        for view in views:
            await view.__aexit__(None, None, None)
        assert counts == [50] * 40

    async def test_definitions_change_under_writers(self, subject: Subject) -> None:
        current = [subject.table]

        async def writer(number: int) -> None:
            for i in range(5):
                await _put_retrying(subject.backend, current, {"id": f"{number}-{i}"})

        async def redefine() -> None:
            for _ in range(4):
                await asyncio.sleep(0)
                table = current[0].model_copy(update={"generation": current[0].generation + 1})
                await subject.backend.alter(table, SchemaChange("redefine"))
                current[0] = table

        await asyncio.gather(redefine(), *(writer(n) for n in range(6)))
        last = Subject(subject.backend, current[0])
        await last.put({"id": "last"})
        assert await last.ids() == {f"{n}-{i}" for n in range(6) for i in range(5)} | {"last"}

    async def test_a_cancelled_write_happens_whole_or_not(self, subject: Subject) -> None:
        for pause in range(6):
            ids = [f"{pause}-{i}" for i in range(20)]
            task = asyncio.create_task(subject.put(*({"id": i} for i in ids)))
            for _ in range(pause):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            # A write handed to a thread may still be on its way; the next one waits its turn.
            await subject.put({"id": "next"})
            landed = (await subject.ids()) & set(ids)
            if subject.backend.capabilities.atomic_batch:
                assert len(landed) in (0, len(ids))


async def _leave_early(subject: Subject) -> None:
    async with subject.backend.view(subject.table, subject.mark) as view:
        async for _ in view.scan(subject.backend.push(subject.table, TRUE), ["id"]):
            raise ZeroDivisionError


async def _put_retrying(backend: Backend, current: list[Table], row: dict[str, Any]) -> None:
    while True:
        try:
            await backend.write(current[0], WriteBatch(current[0].generation, [put(row)]))
        except StaleGeneration:
            await asyncio.sleep(0)
            continue
        return
