"""The suite itself: it fails a backend that breaks the contract, and holds its author to the known gaps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from vectable.backends.memory import MemoryBackend
from vectable.backends.memory.backend import MemoryView
from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.predicate import TRUE, Predicate
from vectable.core.rows import Receipt, RecordBatch, WriteBatch
from vectable.core.schema import Table, Version
from vectable.core.vectors import Vector
from vectable.interfaces import Candidates, Pushed
from vectable.testing.backend_suite import BackendSuite, Subject
from vectable.testing.samples import every_type_table, vector_column

pytest_plugins = ["pytester"]


class LosesGuards(MemoryBackend):
    async def write(self, table: Table, batch: WriteBatch) -> Receipt:
        puts = [replace(p, guard="any", revision=None) for p in batch.puts]
        return await super().write(table, replace(batch, puts=puts))


class EmbedsTooLate(MemoryBackend):
    async def write(self, table: Table, batch: WriteBatch) -> Receipt:
        return await super().write(
            table, replace(batch, cells=[replace(c, set_want=True) for c in batch.cells])
        )


class PushesTooMuch(MemoryBackend):
    """Claims to evaluate what it does not."""

    def push(self, table: Table, where: Predicate) -> Pushed:
        return Pushed(TRUE, None)


class TruncatesCandidates(MemoryBackend):
    def view(self, table: Table, at_least: Mark | None = None) -> Any:
        return _Viewing(super().view(table, at_least), _Truncated)


class ForgetsDeletions(MemoryBackend):
    def view(self, table: Table, at_least: Mark | None = None) -> Any:
        return _Viewing(super().view(table, at_least), _Forgetful)


class _Viewing:
    def __init__(self, inner: Any, kind: type[_Wrapped]) -> None:
        self._inner, self._kind = inner, kind

    async def __aenter__(self) -> _Wrapped:
        return self._kind(await self._inner.__aenter__())

    async def __aexit__(self, *error: Any) -> None:
        await self._inner.__aexit__(*error)


class _Wrapped:
    def __init__(self, view: MemoryView) -> None:
        self.view = view

    def __getattr__(self, name: str) -> Any:
        return getattr(self.view, name)


class _Truncated(_Wrapped):
    async def nearest(self, version: Version, vector: Vector, k: int, where: Pushed) -> Candidates:
        found = await self.view.nearest(version, vector, k, where)
        return replace(found, keys=found.keys[: k // 2])


class _Forgetful(_Wrapped):
    async def changes(self, since: Mark) -> AsyncIterator[Sequence[KeyBytes]]:
        async for keys in self.view.changes(since):
            found: RecordBatch = await self.view.get(keys, [])
            yield found.keys


async def everyday(backend: MemoryBackend) -> Subject:
    columns = (
        vector_column("emb", 4),
        vector_column("auto", 4, auto_update=True),
        vector_column("lazy", 4, auto_update=False),
    )
    return await Subject.create(backend, every_type_table(*columns))


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (LosesGuards, "test_a_revision_guards_a_put"),
        (LosesGuards, "test_a_key_that_must_be_absent"),
        (LosesGuards, "test_of_many_who_want_a_key_absent_one_wins"),
        (PushesTooMuch, "test_everything_and_nothing"),
        (PushesTooMuch, "test_missing_is_neither_null_nor_there"),
        (ForgetsDeletions, "test_puts_deletes_and_vectors_are_told"),
        (ForgetsDeletions, "test_many_changes"),
    ],
)
async def test_a_broken_backend_fails(broken: Callable[[], MemoryBackend], test: str) -> None:
    await getattr(BackendSuite(), test)(await everyday(MemoryBackend()))
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await getattr(BackendSuite(), test)(await everyday(broken()))


async def test_a_late_vector_fails() -> None:
    subject = await everyday(EmbedsTooLate())
    with pytest.raises(AssertionError):
        await BackendSuite().test_a_slow_embed_never_overwrites_a_newer_row(
            subject, subject.table.column("auto").version
        )


async def test_missing_candidates_fail() -> None:
    with pytest.raises(AssertionError):
        await BackendSuite().test_the_true_nearest_are_among_the_candidates(
            TruncatesCandidates(), every_type_table(vector_column("emb", 4)).column("emb").version.metric
        )


GAPS = """
import pytest
from vectable.backends.memory import MemoryBackend
from vectable.testing.backend_suite import BackendSuite

class TestMine(BackendSuite):
    known_gaps = {"test_an_empty_table": "it is said not to work"}

    @pytest.fixture
    async def backend(self):
        return MemoryBackend()

    async def test_an_empty_table(self, subject):
        assert %s

    async def test_unrelated(self, subject):
        pass
"""


@pytest.mark.parametrize(("holds", "outcome"), [("False", "xfailed"), ("True", "failed")])
def test_a_known_gap_is_a_strict_expected_failure(
    pytester: pytest.Pytester, holds: str, outcome: str
) -> None:
    pytester.makepyfile(GAPS % holds)
    result = pytester.runpytest_subprocess(
        "-o", "asyncio_mode=auto", "-p", "no:cacheprovider", "-k", "an_empty_table or unrelated"
    )
    result.assert_outcomes(passed=1, **{outcome: 1})
