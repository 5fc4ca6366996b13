"""Numbered steps that make a database of an older version ours. A step, once released, never changes."""

from __future__ import annotations

from vectable.drivers.postgres.connection import Connection
from vectable.drivers.postgres.migrations import _0001_rows_and_state, _0002_runs, _0003_replica_identity
from vectable.drivers.postgres.names import SCHEMA, literal, quote
from vectable.errors import BackendError, DatabaseNewer, InvalidInput, PrivilegeMissing

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    _0001_rows_and_state.STATEMENTS,
    _0002_runs.STATEMENTS,
    _0003_replica_identity.STATEMENTS,
)
VERSION = len(MIGRATIONS)
_MARK = "Vectable's own tables: its bookkeeping, vectors and embedding cache"
LOCK = 0x56454354
"""Whoever migrates holds this advisory lock: ASCII "VECT"."""


async def version_of(connection: Connection, where: str) -> int:
    """How many migrations the database has seen (0: none). Writes nothing. Raises DatabaseNewer, and
    InvalidInput where the schema `vectable` is another program's."""
    comment, present, objects = await connection.fetchrow(
        "SELECT obj_description(n.oid, 'pg_namespace'), to_regclass('vectable.migrations') IS NOT NULL,"
        " EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid)"
        " FROM (SELECT (SELECT oid FROM pg_namespace WHERE nspname = $1) AS oid) n",
        SCHEMA,
    )
    if not present:
        if objects and comment != _MARK:
            raise InvalidInput(
                f"{where} has a schema {SCHEMA!r} of another program", hint="choose another database"
            )
        return 0
    version = int(await connection.fetchval("SELECT coalesce(max(version), 0) FROM vectable.migrations"))
    if version > VERSION:
        raise DatabaseNewer(
            f"{where} is of format {version}; this Vectable reads up to {VERSION}",
            hint="upgrade Vectable",
            context={"format": version, "supported": VERSION},
        )
    return version


async def migrate(
    connection: Connection, where: str, upto: int = VERSION, *, made_extension: bool = False
) -> int:
    """Brings the database to version `upto`, all in one transaction; how many steps were taken. Safe while
    other processes do the same: they wait. What was there before us is noted, for when we leave:
    `made_extension` says that pgvector was not. Raises what `version_of` raises, and the driver's errors."""
    if await version_of(connection, where) >= upto:
        return 0
    async with connection.transaction():
        await connection.execute(f"SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock({LOCK})")
        version = await version_of(connection, where)
        before = {"made_extension": "yes"} if made_extension else {}
        if version == 0:
            before |= await _make_schema(connection)
        for number in range(version, upto):
            for statement in MIGRATIONS[number]:
                await connection.execute(statement)
            await connection.execute("INSERT INTO vectable.migrations (version) VALUES ($1)", number + 1)
        if version == 0 and upto > 0:
            await connection.executemany("INSERT INTO vectable.meta VALUES ($1, $2)", list(before.items()))
    return upto - version


async def _make_schema(connection: Connection) -> dict[str, str]:
    """What was there before."""
    before = {}
    found = await connection.fetch(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1", SCHEMA
    )
    # IF NOT EXISTS would ask for the right to create schemas even where an administrator has made ours.
    if not found:
        await connection.execute(f"CREATE SCHEMA {quote(SCHEMA)}")
        before["made_schema"] = "yes"
    elif found[0][0] is not None:
        before["schema_comment"] = str(found[0][0])
    if await connection.fetchval(
        "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = $1", SCHEMA
    ):
        await connection.execute(f"COMMENT ON SCHEMA {quote(SCHEMA)} IS {literal(_MARK)}")
    await connection.execute(
        "CREATE TABLE vectable.migrations"
        " (version int PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())"
    )
    return before


async def vector_schema(connection: Connection) -> str | None:
    """The schema pgvector is in; None where it is not installed."""
    found = await connection.fetchval(
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'vector'"
    )
    return None if found is None else str(found)


async def install_vector(connection: Connection, where: str) -> str:
    """The schema pgvector is in, after CREATE EXTENSION where it was not installed and may be. Raises
    BackendError with the command for whoever may."""
    found = await vector_schema(connection)
    if found is None:
        await _create_extension(connection, where)
        found = await vector_schema(connection)
    if found is None:
        raise BackendError(f"{where} has no pgvector", hint=_EXTENSION_HINT)
    if not await connection.fetchval("SELECT has_schema_privilege($1, 'USAGE')", found):
        raise PrivilegeMissing(
            f"pgvector is in the schema {found!r} of {where}, which the role may not use",
            hint=f"its owner may run: GRANT USAGE ON SCHEMA {quote(found)} TO the role",
        )
    version = str(await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'"))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < (0, 8):
        raise BackendError(
            f"{where} has pgvector {version}; 0.8 is the least",
            hint="install a newer pgvector on the server, then run: ALTER EXTENSION vector UPDATE;",
        )
    return found


_EXTENSION_HINT = "let a superuser (or whoever may) run in this database: CREATE EXTENSION vector;"


async def _create_extension(connection: Connection, where: str) -> None:
    from asyncpg import exceptions as pg

    available = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')"
    )
    if not available:
        raise BackendError(
            f"the server of {where} has no pgvector",
            hint="install pgvector 0.8 or newer on the server (a package of your distribution, e.g."
            " postgresql-18-pgvector), then run: CREATE EXTENSION vector;",
        )
    try:
        # Not on the search path of ours, which begins in schemas that are not to be filled.
        schema = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public')"
        )
        target = "public" if schema else SCHEMA
        async with connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
            await connection.execute(f"CREATE EXTENSION IF NOT EXISTS vector SCHEMA {quote(target)}")
    except (pg.InsufficientPrivilegeError, pg.InvalidSchemaNameError) as error:
        raise BackendError(
            f"pgvector is not installed in {where}, and this role may not install it", hint=_EXTENSION_HINT
        ) from error
