"""What a copy came to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["copied", "continued", "caught up", "verified"]


@dataclass(slots=True)
class CopiedTable:
    """One table. `status`: `copied` anew; `continued`, where an earlier copy had stopped; `caught up`, where
    it was there and the source had changed since (`changed` rows); `verified`, where it was there already.
    `checksums`: blake3 of every column's values in key order, the same on both sides."""

    name: str
    status: Status
    rows: int = 0
    changed: int = 0
    """Rows that were changed in the source while, or since, they were copied, and were copied again."""
    checksums: dict[str, str] = field(default_factory=dict)
    searches: int = 0
    """Searches that had the same hits on both sides."""
    notes: list[str] = field(default_factory=list)
    """What the destination could not take over, such as an index of a kind it does not have."""


@dataclass(slots=True, repr=False)
class Copied:
    """Everything `copy` did. `cached`: cache entries that the destination did not have."""

    source: str
    destination: str
    tables: list[CopiedTable] = field(default_factory=list)
    cached: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    def __repr__(self) -> str:
        lines = [f"{self.source} → {self.destination}: {_things(len(self.tables), 'table')}"]
        lines += [f"  {table_line(table)}" for table in self.tables]
        lines += [f"  {_things(self.cached, 'cache entry', 'cache entries')}"] if self.cached else []
        return "\n".join(lines)


def table_line(table: CopiedTable) -> str:
    """ "books: copied, 9,603 rows; checked 5 columns and 5 searches"."""
    again = f", {table.changed:,} changed" if table.changed else ""
    checked = f"checked {_things(len(table.checksums), 'column')}"
    if table.searches:
        checked += f" and {_things(table.searches, 'search', 'searches')}"
    status = {"verified": "there already"}.get(table.status, table.status)
    return f"{table.name}: {status}, {_things(table.rows, 'row')}{again}; {checked}"


def _things(count: int, noun: str, plural: str | None = None) -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
