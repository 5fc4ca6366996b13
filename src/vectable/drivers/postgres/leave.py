"""Leaving a database as it was before us: when the last table is gone, so is what was made for all."""

from __future__ import annotations

import asyncio

from asyncpg import exceptions as pg

from vectable.drivers.postgres.connection import PRESENCE, Connection
from vectable.drivers.postgres.migrations import LOCK
from vectable.drivers.postgres.names import SCHEMA, literal, ours, quote

_WAIT_MS = 2_000
_LOOKS, _PAUSE_S = 10, 0.05
_KINDS = {"r": "TABLE", "v": "VIEW", "S": "SEQUENCE"}


async def leave(connection: Connection) -> bool:
    """Removes everything of ours, and pgvector where it was us who installed it, within the caller's
    transaction. False, and nothing is changed, while there are tables, other connections of ours to the
    database, or something of others that stands on what is ours."""
    await connection.execute(f"SET LOCAL lock_timeout = {_WAIT_MS}; SELECT pg_advisory_xact_lock({LOCK})")
    if await connection.fetchval(_HAS_TABLES) or not await _alone(connection):
        return False
    facts = dict(await connection.fetch("SELECT name, value FROM vectable.meta"))
    try:
        async with connection.transaction():
            await _remove(connection, facts)
    except (pg.DependentObjectsStillExistError, pg.LockNotAvailableError, pg.InsufficientPrivilegeError):
        return False
    if facts.get("made_extension") == "yes":
        try:
            async with connection.transaction():
                await connection.execute("DROP EXTENSION vector")
        except (pg.DependentObjectsStillExistError, pg.InsufficientPrivilegeError):
            pass  # others use it by now
    return True


_HAS_TABLES = (
    "SELECT EXISTS (SELECT FROM vectable.tables)"
    " OR EXISTS (SELECT FROM vectable.state WHERE key LIKE 'table/%')"
)


async def _alone(connection: Connection) -> bool:
    for _ in range(_LOOKS):
        if await connection.fetchval(f"SELECT pg_catalog.pg_try_advisory_xact_lock({PRESENCE})"):
            return True
        # The server may still be about to end what was closed a moment ago.
        await asyncio.sleep(_PAUSE_S)
    return False


async def _remove(connection: Connection, facts: dict[str, str]) -> None:
    # What hangs on a table (its sequence, its indexes) goes with it; what others hung on it forbids it.
    names = await connection.fetch(
        "SELECT c.relkind::text, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = $1 AND c.relkind IN ('r', 'v', 'S') AND NOT EXISTS (SELECT FROM pg_depend d"
        "  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('i', 'a'))"
        " ORDER BY c.relname = 'tables', c.relname",
        SCHEMA,
    )
    functions = await connection.fetch(
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE n.nspname = $1 AND NOT EXISTS (SELECT FROM pg_depend d"
        "  WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')",
        SCHEMA,
    )
    for kind, name in names:
        await connection.execute(f"DROP {_KINDS[kind]} {ours(name)}")
    for (name,) in functions:
        await connection.execute(f"DROP FUNCTION {name}")
    if facts.get("made_schema") == "yes":
        await connection.execute(f"DROP SCHEMA {quote(SCHEMA)}")
    elif await connection.fetchval(
        "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = $1", SCHEMA
    ):
        comment = literal(facts["schema_comment"]) if "schema_comment" in facts else "NULL"
        await connection.execute(f"COMMENT ON SCHEMA {quote(SCHEMA)} IS {comment}")
