"""What the engine needs of a backend that builds vector indexes itself: a port beside `interfaces`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from vectable.core.key import KeyBytes
from vectable.core.schema import Index, Table, Version
from vectable.core.vectors import Vector
from vectable.interfaces import Progress, Pushed, View


class IndexedView(View, Protocol):
    """Views of a backend with `Capabilities.index_kinds`. `effort` is one of `IndexBuilder.efforts`."""

    async def nominate(
        self, index: Index, effort: int, vector: Vector, k: int, where: Pushed
    ) -> Sequence[KeyBytes]:
        """Distinct servable rows passing `where.native`, the nearest by the index: about `k`, or fewer."""

    async def count_up_to(self, where: Pushed, most: int) -> int:
        """Rows passing `where.native`, or `most` when there are more."""

    async def explain_nearest(
        self, version: Version, vector: Vector, k: int, where: Pushed, by: tuple[Index, int] | None
    ) -> str:
        """The engine's own account of `nearest`, or of `nominate` by that index and effort."""


class IndexBuilder(Protocol):
    """A backend with `Capabilities.index_kinds`, beside `Backend`. `alter(create_index)` builds none of them;
    `alter(drop_index)` removes what is built, and stops whoever still builds it."""

    def check_index(self, version: Version, kind: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters, completed. Raises InvalidInput, Unsupported for what `build_index` would refuse."""

    def efforts(self, index: Index, rows: int) -> Sequence[tuple[int, int]]:
        """(effort, candidates to compare exactly for 10 hits), the most thorough last."""

    async def build_index(self, table: Table, index: Index, progress: Progress) -> None:
        """Builds it beside reads and writes; one that is there is kept, one whose build was interrupted is
        built anew. `progress` may raise, which ends the build and leaves nothing behind."""
