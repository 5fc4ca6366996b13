"""Tables that others own, as the engine needs them from outside: a port, in core's own terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vectable.core.key import KeyBytes
from vectable.core.schema import Table


@dataclass(frozen=True, slots=True)
class Noticed:
    """Changes by others worked in: how many, the rows whose cells want something new, whether there are
    more."""

    taken: int
    keys: Sequence[KeyBytes]
    more: bool


class ForeignTables(Protocol):
    """Tables that others own, in the database where ours are: enriched, never changed. With an attached one
    (`Table.foreign`) a backend does as with any, but for puts and deletes."""

    async def look(self, name: str, place: str | None = None, updated_at: str | None = None) -> Table:
        """A definition of that table, stored nowhere yet. Raises TableNotFound, Unsupported, AccessDenied,
        Conflict, InvalidInput."""

    async def watch(self, table: Table) -> bool:
        """Whether changes are told as they are made, from now on. May be repeated. Raises BackendBusy."""

    async def compare(self, table: Table, seconds: float | None = None) -> bool:
        """Looks for changes nobody told of: all, or up to `seconds` before the newest. False: not now."""

    async def notice(self, table: Table, limit: int = 1_000) -> Noticed | None:
        """Works in changes that wait, in one transaction; None while another process is at it. Raises
        StaleGeneration, TableNotFound."""

    async def estimate(self, table: Table) -> int:
        """About how many rows there are, noticed or waiting."""

    async def describe(self, table: Table) -> dict[str, Any]:
        """`told` (whether changes are), `views` (for plain SQL, by embedding column): JSON-ready."""
