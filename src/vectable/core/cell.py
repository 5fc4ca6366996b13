"""Cells: one row x one live version. A cell's state is derived, never stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
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

    def wanting(self, want: bytes | None) -> Cell:
        """This cell when its row's content becomes `want`: the same want keeps the cell, None empties it,
        another one keeps the vector (stale) and forgets error and attempts."""
        if want == self.want:
            return self
        return Cell() if want is None else Cell(want=want, have=self.have, vector=self.vector)

    def given(self, vector: bytes) -> Cell:
        """This cell when the vector of what it wants arrives. A cell that wants nothing takes none."""
        return self if self.want is None else Cell(want=self.want, have=self.want, vector=vector)

    def failed(self, error: str) -> Cell:
        """This cell after one more attempt that came to nothing."""
        return replace(self, error=error, attempts=self.attempts + 1)

    def cleared(self) -> Cell:
        """This cell with everything but its want forgotten, so that it is embedded again."""
        return Cell(want=self.want)
