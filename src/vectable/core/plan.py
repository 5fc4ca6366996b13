"""Plans: how a query was answered, and why. What `explain` shows."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

Path = Literal[
    "scan", "exact-ids", "flat", "certified-scan", "fast-scan", "index", "backend", "backend-index"
]


class Plan(BaseModel):
    """`path`: `scan` (no similarity); `exact-ids` (exact over the filter's matching rows); `flat` (exact over
    all); `certified-scan` (8-bit codes nominate, and nothing they left out can be better: exact too);
    `fast-scan` and `index` (approximate, re-ranked exactly); `backend` (exact, in the database);
    `backend-index` (approximate, by an index in the database, re-ranked exactly)."""

    path: Path
    why: str
    exact: bool
    """True when the answer is certain to equal the definition of the query, order included."""
    column: str | None = None
    metric: str | None = None
    index: str | None = None
    recall: float | None = None
    """Measured recall@10 of an approximate path on this table's own rows; None for exact paths."""
    rows_total: int = 0
    rows_searchable: int = 0
    rows_matching: int | None = None
    """Rows the filter keeps, where it was counted."""
    rows_examined: int = 0
    """Vectors compared, or rows read for a scan."""
    candidates: int | None = None
    fallbacks: list[str] = Field(default_factory=list)
    """Paths tried first, each with the reason it could not answer."""
    filter_pushed: str | None = None
    filter_residual: str | None = None
    backend_plan: str | None = None
    """The database's own account of how it searches; where that was asked for, and it was the database
    that searched."""
    times_ms: dict[str, float] = Field(default_factory=dict)
    """Milliseconds by stage: embed, refresh, filter, search, fetch, total."""
