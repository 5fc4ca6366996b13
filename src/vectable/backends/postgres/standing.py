"""Where a table's history stands: snapshots of the server, and the marks that name them.

A mark is what `pg_current_snapshot()` said: which transactions had ended. An integer that counts could not
do: of two writers the one who counted first may commit last, unseen by a reader who noted the second."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from vectable.backends.refusals import not_found as not_found
from vectable.core.mark import Mark
from vectable.core.schema import Table
from vectable.drivers.postgres import Incarnation
from vectable.errors import MarkExpired

_HINT = "read the table from the start"
_SNAPSHOT = re.compile(r"(\d{1,19}):(\d{1,19}):((?:\d{1,19}(?:,\d{1,19})*)?)")


class Snapshot(NamedTuple):
    """Transactions below `xmin` have ended, those from `xmax` on have not begun, and of those between
    `running` had not ended."""

    xmin: int
    xmax: int
    running: tuple[int, ...]

    @classmethod
    @lru_cache(maxsize=256)
    def parse(cls, text: str) -> Snapshot | None:
        """The inverse of `str`, as the server writes it too; None for anything else."""
        found = _SNAPSHOT.fullmatch(text)
        if found is None:
            return None
        running = tuple(map(int, found[3].split(","))) if found[3] else ()
        snapshot = cls(int(found[1]), int(found[2]), running)
        between = all(snapshot.xmin <= xid < snapshot.xmax for xid in running)
        rising = list(running) == sorted(set(running))
        return snapshot if 0 < snapshot.xmin <= snapshot.xmax and between and rising else None

    @classmethod
    def told(cls, text: str) -> Snapshot:
        """What the server says that `pg_current_snapshot()` is."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), tuple(map(int, running.split(","))) if running else ())

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, self.running))}"

    def with_own(self, xid: int) -> Snapshot:
        """This one, seen from within transaction `xid`, and that one's own changes."""
        running = {each for each in self.running if each != xid}
        # Those that began since may still run: to tell what they did twice is better than never.
        running.update(range(self.xmax, xid))
        rising = tuple(sorted(running))
        xmax = max(self.xmax, xid + 1)
        return Snapshot(rising[0] if rising else xmax, xmax, rising)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a statement saw of the line in `vectable.tables`, and of the server, at its moment."""

    generation: int
    floor: int
    """Deletions by transactions below it may have been forgotten."""
    snapshot: Snapshot


def make_mark(incarnation: Incarnation, table: Table, snapshot: Snapshot) -> Mark:
    """The mark that includes what `snapshot` saw."""
    return Mark(f"{incarnation}:{table.id}:{snapshot}")


def parse_mark(mark: Mark, incarnation: Incarnation, table: Table) -> Snapshot | None:
    """The snapshot a mark names; None for one of another table, or of an incarnation whose numbers mean
    something else."""
    made_in, _, rest = mark.value.partition(":")
    of_table, _, text = rest.partition(":")
    return Snapshot.parse(text) if of_table == table.id and incarnation.holds(made_in) else None


def snapshot_of(mark: Mark, incarnation: Incarnation, table: Table, now: Snapshot) -> Snapshot:
    """The snapshot a mark names. Raises MarkExpired for one of another table, of another incarnation of the
    database, or ahead of `now`."""
    found = parse_mark(mark, incarnation, table)
    if found is None or found.xmax > now.xmax:
        raise MarkExpired("the mark is not one of this table's", hint=_HINT)
    return found


def check_not_forgotten(since: Snapshot, standing: Standing) -> None:
    """Raises MarkExpired when deletions after `since` have been forgotten."""
    if since.xmin < standing.floor:
        raise MarkExpired("the mark is too old", hint=_HINT)


def changed_since(xid: str, parameter: str) -> str:
    """SQL: the transaction in the column `xid` had not ended for the snapshot in `parameter`."""
    snapshot = f"{parameter}::text::pg_snapshot"
    return (
        f"({xid} >= pg_snapshot_xmax({snapshot}) OR {xid} = ANY (ARRAY(SELECT pg_snapshot_xip({snapshot}))))"
    )


def any_changed_since(sources: Sequence[tuple[str, str]], parameter: str) -> str:
    """SQL: whether one of `sources`, each a table and its column of transactions, has anything that changed
    since the snapshot in `parameter`."""
    # Each looks at the end of an index, where there is nothing to find, however long some transaction has
    # been running. In an order, and by ranges, for the planner could take a scan of everything for as good,
    # as long as it thinks that something will be found.
    snapshot = f"{parameter}::text::pg_snapshot"
    parts = []
    for source, xid in sources:
        last = f"SELECT 1 FROM {source} WHERE {{}} ORDER BY {xid} DESC LIMIT 1"
        parts.append(f"({last.format(f'{xid} >= pg_snapshot_xmax({snapshot})')}) IS NOT NULL")
        running = last.format(f"{xid} >= u.x AND {xid} <= u.x")
        parts.append(
            f"EXISTS (SELECT FROM pg_snapshot_xip({snapshot}) AS u (x) WHERE ({running}) IS NOT NULL)"
        )
    return " OR ".join(parts)
