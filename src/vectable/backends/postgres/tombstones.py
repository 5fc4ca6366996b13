"""Keys of deleted rows, kept for those who ask what has changed."""

from __future__ import annotations

from vectable.drivers.postgres import Connection


async def create_tombstones(connection: Connection, name: str) -> None:
    """Makes the table `name` (quoted) for them."""
    await connection.execute(
        f"CREATE TABLE {name} (key bytea NOT NULL, xid xid8 NOT NULL DEFAULT pg_current_xact_id(),"
        " at timestamptz NOT NULL DEFAULT now())"
    )
    await connection.execute(f"ALTER TABLE {name} REPLICA IDENTITY FULL")
    await connection.execute(f"CREATE INDEX ON {name} (xid)")
