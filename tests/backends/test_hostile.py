"""The hostile backend keeps the contract too: it is legal, however nasty. And it really is nasty."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from vectable.core.predicate import TRUE, bind, parse_filter
from vectable.errors import BackendError, OutcomeUnknown
from vectable.testing.backend_suite import BackendSuite, Reopen, Subject
from vectable.testing.hostile_backend import HostileBackend, HostileStorage
from vectable.testing.samples import every_type_table, text_key


class TestHostileBackend(BackendSuite):
    @pytest.fixture(params=[1, 2])
    def storage(self, request: pytest.FixtureRequest) -> HostileStorage:
        return HostileStorage(seed=request.param)

    @pytest.fixture
    async def backend(self, storage: HostileStorage) -> AsyncIterator[HostileBackend]:
        backend = HostileBackend(storage)
        await backend.open()
        yield backend
        await backend.close()

    @pytest.fixture
    def reopen(self, backend: HostileBackend, storage: HostileStorage) -> Reopen:
        async def opened() -> HostileBackend:
            await backend.close()
            return HostileBackend(storage)

        return opened


async def made(seed: int = 0) -> tuple[Subject, HostileStorage]:
    storage = HostileStorage(seed)
    return await Subject.create(HostileBackend(storage), every_type_table()), storage


async def test_a_crash_leaves_the_first_part_of_a_batch() -> None:
    subject, storage = await made()
    await subject.put({"id": "before"})
    storage.crash_after = 2
    with pytest.raises(OutcomeUnknown):
        await subject.put(*({"id": i} for i in "abcd"))
    with pytest.raises(BackendError):
        await subject.ids()
    again = Subject(HostileBackend(storage), subject.table, subject.mark)
    await again.put({"id": "after"})
    assert await again.ids() == {"before", "a", "b", "after"}


async def test_receipts_land_last() -> None:
    subject, storage = await made()
    storage.crash_after = 1
    with pytest.raises(OutcomeUnknown):
        await subject.write(receipts={"first": b"1", "second": b"2"})
    again = HostileBackend(storage)
    assert await again.receipt(subject.table, "first") == b"1"
    assert await again.receipt(subject.table, "second") is None


async def test_a_view_without_a_mark_may_lag_and_with_one_does_not() -> None:
    lagged = 0
    for seed in range(20):
        subject, _ = await made(seed)
        await subject.put({"id": "a"})
        async with subject.backend.view(subject.table) as view:
            lagged += len(await view.get([text_key("a")], [])) == 0
        assert await subject.ids() == {"a"}
    assert lagged > 0


async def test_filters_are_supersets_and_candidates_are_scrambled() -> None:
    subject, _ = await made()
    await subject.put(*({"id": f"{i:03d}", "stars": i} for i in range(100)))
    where = bind(parse_filter({"column": "stars", "operator": "<", "value": 10}), subject.table)
    pushed = subject.backend.push(subject.table, where)
    assert pushed.residual == where
    async with subject.backend.view(subject.table, subject.mark) as view:
        assert await view.count(pushed) > 10
        assert await view.count(subject.backend.push(subject.table, TRUE)) == 100


async def test_changes_repeat_out_of_order_under_marks_that_are_no_numbers() -> None:
    subject, _ = await made()
    start = await subject.position()
    for i in range(50):
        await subject.put({"id": f"{i:03d}"})
    async with subject.backend.view(subject.table, subject.mark) as view:
        told = [key async for keys in view.changes(start) for key in keys]
        assert not view.mark.value.isdigit()
    assert len(told) > len(set(told)) == 50
    assert told != sorted(told)
