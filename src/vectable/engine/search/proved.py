"""The rows of hits found without a view, and the proof that nothing has changed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, Protocol, Self, TypeVar

from vectable.core.key import KeyBytes
from vectable.core.rows import RecordBatch, Row
from vectable.engine.resident.recent import RecentRows
from vectable.engine.resident.snapshot import Snapshot
from vectable.engine.search.prepare import Prepared
from vectable.errors import VectableError
from vectable.interfaces import Backend, Noted

T = TypeVar("T")


class Begin(Protocol):
    """Starts work on the backend's loop for a thread that is not the loop's; to await what it gives never
    suspends, but holds that thread until the work is done."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> Awaitable[T]: ...


class ProvedRows:
    """Rows at the mark of `snapshot`, those in `recent` not fetched again, and the proof that nothing of the
    table has changed since that mark, or of the state store since it was `noted`.

    Where the search before found all its rows in `recent`, the proof is asked for before this search is
    computed, so that the round trip takes place meanwhile. Any moment after the search began will do for it:
    that is the moment the answer is true at. `async with` asks, and leaves nothing under way. `begin`: for a
    thread that is not the backend's loop's."""

    def __init__(
        self,
        backend: Backend,
        prepared: Prepared,
        snapshot: Snapshot,
        recent: RecentRows | None,
        noted: Noted | None,
        begin: Begin | None,
    ) -> None:
        self._backend = backend
        self._table = prepared.table
        self._selection = prepared.compiled.selection
        self._mark = snapshot.mark
        shape = self._selection.shape
        self._shape = shape or ""
        self._recent = recent if shape else None
        self._noted = noted
        self._begin = begin
        self._early: Awaitable[RecordBatch | VectableError | None] | None = None

    async def __aenter__(self) -> Self:
        """Asks for the proof now, if it is likely to be all that is needed."""
        if self._recent is None or not self._recent.complete:
            return self
        work = _outcome(self._ask(()))
        if self._begin is not None:
            self._early = self._begin(work)
        else:
            self._early = asyncio.create_task(work)
            await asyncio.sleep(0)  # so that it is on its way
        return self

    async def __aexit__(self, *_: object) -> None:
        # Of a search that was cancelled, say: the caller may close the database next, and end the loop. The
        # loop of a `begin` goes on, and sees to it that nothing is left when it ends.
        if isinstance(self._early, asyncio.Task) and not self._early.done():
            self._early.cancel()
            await asyncio.wait((self._early,))

    async def rows(self, keys: Sequence[KeyBytes]) -> list[Row] | None:
        """The answer's rows, in the order of `keys`; None where something has changed. Raises as a view
        does."""
        recent = self._recent
        held = {} if recent is None else recent.found(self._mark, self._shape, keys)
        missing = [key for key in keys if key not in held] if held else keys
        batch = await self._proof() if not missing else await self._wait(self._ask(missing))
        if batch is None or len(batch) != len(missing):
            return None
        fetched = self._selection.rows(batch) if missing else []
        if recent is not None and missing:
            new = dict(zip(missing, fetched, strict=True))
            recent.keep(self._mark, self._shape, new)
            held.update(new)
        return [held[key] for key in keys] if held else fetched

    async def _proof(self) -> RecordBatch | None:
        if self._early is None:
            return await self._wait(self._ask(()))
        outcome = await self._early
        if isinstance(outcome, VectableError):
            raise outcome
        return outcome

    async def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return await (work if self._begin is None else self._begin(work))

    def _ask(self, keys: Sequence[KeyBytes]) -> Coroutine[Any, Any, RecordBatch | None]:
        columns, versions = (self._selection.columns, self._selection.versions) if keys else ((), ())
        return self._backend.get_unchanged(self._table, self._mark, keys, columns, versions, self._noted)


async def _outcome(work: Coroutine[Any, Any, T]) -> T | VectableError:
    """What it gives or raises: nobody may ask, and then its error is nobody's."""
    try:
        return await work
    except VectableError as error:
        return error
