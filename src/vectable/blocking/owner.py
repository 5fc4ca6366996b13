"""What owns something open on the loop: closed with a `with`, when collected, when the interpreter ends."""

from __future__ import annotations

from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from vectable.blocking.loop import Loop

T = TypeVar("T")


class Owned(Protocol):
    """An asynchronous handle."""

    @property
    def closed(self) -> bool: ...
    async def close(self) -> None: ...


class Owner:
    """A synchronous handle of an asynchronous one, which is nobody else's."""

    def __init__(self, loop: Loop, owned: Owned) -> None:
        self._loop = loop
        self._owned = owned
        loop.register(owned, owned.close)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(work)

    def _close(self) -> None:
        if not self._owned.closed:
            self._loop.release(self._owned)
            self._run(self._owned.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __del__(self) -> None:
        owned = getattr(self, "_owned", None)
        if owned is not None and not owned.closed:
            self._loop.release(owned)
            self._loop.forget(owned.close)

    def __repr__(self) -> str:
        return repr(self._owned).replace("Async", "", 1)
