"""Cells: one row x one live version. A cell's state is derived, never stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CellState = Literal["ready", "new", "stale", "error", "empty"]
CELL_STATES: tuple[CellState, ...] = ("ready", "new", "stale", "error", "empty")
GIVEN = b"given"
"""`want` and `have` of a vector the user gave: there is no content to compare."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What a row wants embedded (`want`, a content key, None: nothing) and what it has (`have`, `vector`)."""

    want: bytes | None = None
    have: bytes | None = None
    vector: bytes | None = None
    """Little-endian float32 components."""
    error: str | None = None
    attempts: int = 0

    @property
    def state(self) -> CellState:
        """want null → empty; have = want → ready; error → error; have ≠ want → stale; else new."""
        if self.want is None:
            return "empty"
        if self.have == self.want:
            return "ready"
        if self.error is not None:
            return "error"
        return "stale" if self.have is not None else "new"

    def servable(self, stale: bool) -> bool:
        """Whether search may use the vector; `stale`: outdated vectors are served (auto_update = false)."""
        if self.vector is None or self.want is None:
            return False
        return stale or self.have == self.want
