"""Codes beside rows held in memory, and whether they are worth asking."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vectable.interfaces import CodeScan

_TRIALS = 32
"""Searches after which it is known whether codes are good enough."""


class Codes:
    """A code scan over a base, or over those of its rows that a filter keeps (`positions`). `failed` of
    `tried` searches it could not certify: noted without a lock, for it only decides whether the scan is
    worth its while."""

    __slots__ = ("digest", "failed", "positions", "scan", "tried")

    def __init__(self, scan: CodeScan, digest: str, positions: NDArray[np.int64] | None = None) -> None:
        self.scan = scan
        self.digest = digest
        self.positions = positions
        self.tried = self.failed = 0

    @property
    def worthwhile(self) -> bool:
        """Most searches are certified, as far as is known."""
        return self.tried < _TRIALS or 4 * self.failed < self.tried
