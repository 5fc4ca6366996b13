"""Which history a connection sees: transactions are numbered anew after a crash, a restore, in a copy."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asyncpg import exceptions as pg

if TYPE_CHECKING:
    from vectable.drivers.postgres.connection import Connection

_KEPT = 64


@dataclass(frozen=True, slots=True)
class Incarnation:
    """`place`: the database, other in every copy and after every restore. `run`: the server's, from a start
    to its end. `runs`: it and those before it that ended without a crash, so that what they numbered still
    means the same."""

    place: str
    run: str
    runs: frozenset[str]

    def __str__(self) -> str:
        return f"{self.place}.{self.run}"

    def holds(self, text: str) -> bool:
        """Whether what was numbered in the incarnation that is `text` means the same in this one."""
        place, _, run = text.partition(".")
        return place == self.place and run in self.runs


async def find_incarnation(connection: Connection) -> tuple[str, Incarnation]:
    """(the database's identity, its incarnation), as the connection sees them until it ends: no connection
    outlives a crash. Writes once in each run of the server."""
    try:
        identity, current, ids, *place = await connection.fetchrow(_WHO)
    except pg.FeatureNotSupportedError:  # a standby has no such tables; what it numbers is never taken back
        identity, run, *place = await connection.fetchrow(_OF_STANDBY)
        return identity, Incarnation(_hashed(place), run, frozenset({run}))
    if not current:
        # Whatever the session's defaults are, and whoever else does the same.
        async with connection.transaction(isolation="read_committed", readonly=False):
            await connection.execute(_BEGIN, secrets.token_hex(8))
        ids = await connection.fetchval("SELECT ids FROM vectable.runs")
    return identity, Incarnation(_hashed(place), ids[-1], frozenset(ids))


def _hashed(place: list[object]) -> str:
    return hashlib.sha256(":".join(map(str, place)).encode()).hexdigest()[:16]


# Made of what any role may ask. A dump, restored, gives the row a new `xmin` and its table another oid; a
# server that was wound back goes on in another timeline.
_PLACE = (
    "m.xmin::text, m.tableoid::bigint,"
    " (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),"
    " CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END"
)
_WHO = (
    f"SELECT m.value, r.started IS NOT DISTINCT FROM pg_postmaster_start_time(), r.ids, {_PLACE}"
    " FROM vectable.meta m LEFT JOIN vectable.runs r ON TRUE WHERE m.name = 'identity'"
)
_OF_STANDBY = (
    f"SELECT m.value, extract(epoch FROM pg_postmaster_start_time())::text, {_PLACE}"
    " FROM vectable.meta m WHERE m.name = 'identity'"
)
_BEGIN = (
    "INSERT INTO vectable.runs AS r (started, ids) VALUES (pg_postmaster_start_time(), ARRAY[$1::text])"
    " ON CONFLICT (one) DO UPDATE SET started = excluded.started,"
    f" ids = (r.ids || excluded.ids)[greatest(1, cardinality(r.ids) - {_KEPT - 2}):]"
    " WHERE r.started <> excluded.started"
)
