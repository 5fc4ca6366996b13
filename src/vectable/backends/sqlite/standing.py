"""Where a table's history stands, and the marks that name a place in it."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from vectable.backends.refusals import not_found
from vectable.core.mark import Mark
from vectable.core.schema import Table
from vectable.errors import MarkExpired
from vectable.interfaces import Noted

_HINT = "read the table from the start"
_QUERY = (
    "SELECT generation, seq, rows, next_rid, floor,"
    " (SELECT value FROM meta WHERE name = 'incarnation') FROM tables WHERE id = ?"
)

PLACE = (
    "(SELECT generation, (SELECT value FROM meta WHERE name = 'incarnation'), seq,"
    " (SELECT revision FROM state WHERE key = ?) FROM tables WHERE id = ?)"
)
"""What tells whether a table, and an entry of the state store, are still as they were; see `same_place`."""
PLACE_WIDTH = 4


class Standing(NamedTuple):
    """One line of `tables`. `seq` counts the batches that changed something, `floor` is the least one that
    `changes` can start from, `incarnation` is another one after a restore."""

    generation: int
    seq: int
    rows: int
    next_rid: int
    floor: int
    incarnation: str


def find_standing(connection: sqlite3.Connection, table: Table) -> Standing | None:
    """None where the table is not stored."""
    row = connection.execute(_QUERY, (table.id,)).fetchone()
    return None if row is None else Standing._make(row)


def standing_of(connection: sqlite3.Connection, table: Table) -> Standing:
    """Raises TableNotFound."""
    found = find_standing(connection, table)
    if found is None:
        raise not_found(table)
    return found


def make_mark(table: Table, standing: Standing) -> Mark:
    """The mark that includes everything up to `standing.seq`."""
    return Mark(f"{standing.incarnation}:{table.id}:{standing.seq}")


def same_place(
    mark: Mark | None, table: Table, noted: Noted | None, place: tuple[int, str, int, int | None]
) -> bool:
    """Whether `place` is the mark's and the entry as it was noted, where there are such, and the stored
    definition is `table`'s."""
    generation, incarnation, seq, revision = place
    if generation != table.generation or (noted is not None and revision != noted.revision):
        return False
    return mark is None or mark.value == f"{incarnation}:{table.id}:{seq}"


def seq_of(mark: Mark, table: Table, standing: Standing) -> int:
    """The place a mark names. Raises MarkExpired for one of another table, another incarnation, or ahead."""
    head, _, seq = mark.value.rpartition(":")
    if head != f"{standing.incarnation}:{table.id}" or not seq.isdecimal() or int(seq) > standing.seq:
        raise MarkExpired("the mark is not one of this table's", hint=_HINT)
    return int(seq)


def check_not_forgotten(seq: int, standing: Standing) -> None:
    """Raises MarkExpired when deletions after `seq` have been forgotten."""
    if seq < standing.floor:
        raise MarkExpired("the mark is too old", hint=_HINT)
