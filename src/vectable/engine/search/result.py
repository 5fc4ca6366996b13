"""What a search gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.plan import Plan
from vectable.core.rows import Row


class SearchResult:
    """Rows in final order, by column. `scores` and `distances` are None without `similar`. `coverage` is
    (rows of the table, rows with a servable vector in the searched column); without `similar`, (0, 0).
    `mark`: the moment a similarity search is true at; without `similar`, None."""

    __slots__ = ("_next", "coverage", "distances", "keys", "mark", "plan", "rows", "scores")

    def __init__(
        self,
        keys: Sequence[KeyBytes],
        rows: list[Row],
        scores: Sequence[float] | None,
        distances: Sequence[float] | None,
        plan: Plan,
        mark: Mark | None,
        next_cursor: Callable[[], str] | None = None,
        coverage: tuple[int, int] = (0, 0),
    ) -> None:
        self.keys = list(keys)
        self.rows = rows
        self.scores = None if scores is None else list(scores)
        self.distances = None if distances is None else list(distances)
        self.plan = plan
        self.mark = mark
        self.coverage = coverage
        self._next = next_cursor

    @property
    def next_cursor(self) -> str | None:
        """Continues behind the last row; None when there are no more rows. Made when asked for."""
        return None if self._next is None else self._next()

    def __len__(self) -> int:
        return len(self.keys)
