"""What the engine needs of a backend for which opening a view is most of a small read: a port beside
`interfaces`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from vectable.core.query import OrderTerm
from vectable.core.rows import RecordBatch
from vectable.core.schema import Table
from vectable.interfaces import Backend, Noted, Position, Pushed


class DirectReader(Backend, Protocol):
    """A backend with `Capabilities.reads_directly`, beside `Backend`: what a view opened now would give, in
    as few round trips as can be, provided that the definition and the noted entry of the state store still
    hold at that moment. None where they do not, or where it takes a view to tell."""

    async def page(
        self,
        table: Table,
        where: Pushed,
        columns: Sequence[str],
        versions: Sequence[str],
        order: Sequence[OrderTerm],
        after: Position | None,
        limit: int,
        noted: Noted | None = None,
    ) -> RecordBatch | None:
        """All that `View.scan` gives with that limit."""

    async def count(self, table: Table, where: Pushed, noted: Noted | None = None) -> int | None:
        """`View.count`."""


def direct_reader(backend: Backend) -> DirectReader | None:
    """The backend as one that reads directly, if it is one."""
    return cast(DirectReader, backend) if backend.capabilities.reads_directly else None
