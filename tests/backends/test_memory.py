"""The memory backend, its state store and its cache keep the contracts; it is the oracle of the others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from vectable.backends.memory import MemoryBackend, MemoryStorage
from vectable.core.rows import Delete
from vectable.errors import MarkExpired
from vectable.state.memory import MemoryStateStore, MemoryVectorCache
from vectable.testing.backend_suite import BackendSuite, Reopen, Subject
from vectable.testing.samples import every_type_table, text_key
from vectable.testing.store_suite import CacheSuite, StoreSuite


class TestMemoryBackend(BackendSuite):
    @pytest.fixture
    def storage(self) -> MemoryStorage:
        return MemoryStorage()

    @pytest.fixture
    async def backend(self, storage: MemoryStorage) -> AsyncIterator[MemoryBackend]:
        backend = MemoryBackend(storage)
        await backend.open()
        yield backend
        await backend.close()

    @pytest.fixture
    def reopen(self, storage: MemoryStorage) -> Reopen:
        async def opened() -> MemoryBackend:
            return MemoryBackend(storage)

        return opened


class TestMemoryStateStore(StoreSuite):
    @pytest.fixture
    def store(self) -> MemoryStateStore:
        return MemoryStateStore()


class TestMemoryVectorCache(CacheSuite):
    @pytest.fixture
    def cache(self) -> MemoryVectorCache:
        return MemoryVectorCache()


async def test_a_mark_older_than_the_last_tombstone_is_expired() -> None:
    subject = await Subject.create(MemoryBackend(tombstones=2), every_type_table())
    ids = "abcd"
    await subject.put(*({"id": i} for i in ids))
    marks = [await subject.position()]
    for i in ids:
        await subject.write(deletes=[Delete(text_key(i))])
        marks.append(await subject.position())
    await subject.backend.maintain()
    for mark in marks[:2]:
        with pytest.raises(MarkExpired):
            await subject.changes(mark)
    assert await subject.changes(marks[2]) == {text_key("c"), text_key("d")}
    assert await subject.changes(marks[3]) == {text_key("d")}
