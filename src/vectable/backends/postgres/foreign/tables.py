"""Tables that others own, as the engine asks for them: looked at, watched, kept up with."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from asyncpg import exceptions as pg

from vectable.backends.postgres.foreign import notice, storage, watch
from vectable.backends.postgres.foreign.definition import definition_of
from vectable.backends.postgres.foreign.inspect import check_watermark, inspect
from vectable.backends.postgres.foreign.place import Theirs, find_theirs
from vectable.backends.postgres.foreign.record import Attached, queue, sidecar
from vectable.backends.refusals import changed, not_found
from vectable.core.foreign import Noticed
from vectable.core.schema import ForeignColumn, Table
from vectable.drivers.postgres import SCHEMA, Connection, PostgresDriver, quote

T = TypeVar("T")
log = logging.getLogger(__name__)
_WRITERS_WAIT_MS = 200
"""Triggers wait for writers to end, and new writers wait behind them: no longer than that."""
_ALONE = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 2))"


class PostgresForeignTables:
    """`ForeignTables` over a driver that is open."""

    def __init__(self, driver: PostgresDriver) -> None:
        self._driver = driver

    async def look(self, name: str, place: str | None = None, updated_at: str | None = None) -> Table:
        """The definition of the table `name` of others. Raises TableNotFound, Unsupported, AccessDenied,
        Conflict, InvalidInput."""
        async with self._driver.connection() as connection:
            seen = await inspect(connection, name, place)
        table = definition_of(seen)
        if updated_at is None or table.foreign is None:
            return table
        check_watermark(seen, updated_at)
        moment = next(i for i, c in table.foreign.columns.items() if c.name == updated_at)
        return table.model_copy(update={"foreign": table.foreign.model_copy(update={"updated_at": moment})})

    async def watch(self, table: Table) -> bool:
        """Whether every change is told from now on: triggers are there, or could be put there. Raises
        BackendBusy while their writers leave no room."""

        async def attempt(connection: Connection, attached: Attached, theirs: Theirs | None) -> bool:
            if theirs is None:
                foreign = attached.foreign
                log.warning("%s.%s, or its key, is gone: detach it", foreign.place, foreign.name)
                return False
            followed = await _follow(connection, table, attached, theirs)
            if attached.foreign.watch == "poll" or not await watch.may_watch(connection, theirs):
                return False
            if followed is attached and await watch.is_watched(connection, table.id, theirs):
                return True
            await connection.execute(f"SET LOCAL lock_timeout = {_WRITERS_WAIT_MS}")
            now = await find_theirs(connection, table, followed)
            await watch.start_watching(connection, table.id, now or theirs)
            return True

        return bool(await self._alone(table, attempt))

    async def notice(self, table: Table, limit: int = 1_000) -> Noticed | None:
        """Works in up to `limit` changes; None while another process does. Raises StaleGeneration,
        TableNotFound."""

        async def attempt(connection: Connection, attached: Attached, theirs: Theirs | None) -> Noticed:
            whole = await connection.fetchval(
                f"WITH gone AS (DELETE FROM {queue(table.id)} WHERE whole RETURNING 1)"
                " SELECT count(*) FROM gone"
            )
            if whole:
                await notice.compare(connection, table, attached, theirs)
            taken, keys = await notice.take(connection, table, attached, theirs, limit)
            return Noticed(taken, keys, more=bool(taken >= limit or whole))

        if not await self._waiting(table):
            return Noticed(0, [], more=False)
        return await self._alone(table, attempt)

    async def _waiting(self, table: Table) -> bool:
        """Whether any change is yet to be noticed."""
        return bool(await self._one(table, f"SELECT EXISTS (SELECT FROM {queue(table.id)})"))

    async def compare(self, table: Table, seconds: float | None = None) -> bool:
        """Looks for changes nobody told of: everywhere, which finds deletions as well, or among rows whose
        time of change lies at most `seconds` before the newest there is. They then wait to be noticed.
        False: not now, since others are at it or changes wait already."""

        async def attempt(connection: Connection, attached: Attached, theirs: Theirs | None) -> bool:
            if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {queue(table.id)})"):
                return False
            since = None
            if seconds is not None and theirs is not None:
                column = theirs.columns.get(attached.foreign.updated_at or "")
                if column is None:
                    return False
                newest = f"(SELECT max({quote(column.name)}) FROM {theirs.name})"
                since = f"f.{quote(column.name)} >= {newest} - {seconds:f} * interval '1 second'"
            await notice.compare(connection, table, attached, theirs, since)
            return True

        return bool(await self._alone(table, attempt))

    async def describe(self, table: Table) -> dict[str, Any]:
        """`told` (whether changes are), `views` (for plain SQL, by embedding column)."""

        async def run(connection: Connection) -> tuple[Attached | None, bool]:
            attached = await storage.read(connection, table)
            theirs = None if attached is None else await find_theirs(connection, table, attached)
            told = theirs is not None and await watch.is_watched(connection, table.id, theirs)
            return attached, told

        attached, told = await self._driver.read(run)
        names = {c.id: c.name for c in table.columns}
        views = {names[i]: f"{SCHEMA}.{v}" for i, v in (attached.views if attached else {}).items()}
        return {"told": told, "views": views}

    async def estimate(self, table: Table) -> int:
        """About how many rows there are to notice."""
        sql = f"SELECT (SELECT count(*) FROM {queue(table.id)}) + (SELECT count(*) FROM {sidecar(table.id)})"
        return int(await self._one(table, sql))

    async def _one(self, table: Table, sql: str) -> Any:
        async def run(connection: Connection) -> Any:
            try:
                return await connection.fetchval(sql)
            except pg.UndefinedTableError:
                raise not_found(table) from None

        return await self._driver.read(run)

    async def _alone(
        self, table: Table, attempt: Callable[[Connection, Attached, Theirs | None], Awaitable[T]]
    ) -> T | None:
        """A transaction over the table in its current definition; None while another process has one."""

        async def run(connection: Connection) -> T | None:
            await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
            if not await connection.fetchval(_ALONE, table.id):
                return None
            try:
                # Whoever alters the definition comes before or after.
                await connection.execute(f"LOCK TABLE {sidecar(table.id)} IN ROW EXCLUSIVE MODE")
            except pg.UndefinedTableError:
                raise not_found(table) from None
            row = await connection.fetchrow(
                "SELECT generation, attached::text FROM vectable.tables WHERE id = $1", table.id
            )
            if row is None or row[1] is None:
                raise not_found(table)
            if row[0] != table.generation:
                raise changed(table)
            attached = Attached.model_validate_json(row[1])
            return await attempt(connection, attached, await find_theirs(connection, table, attached))

        return await self._driver.transaction(run, statement_timeout_ms=0)


async def _follow(connection: Connection, table: Table, attached: Attached, theirs: Theirs) -> Attached:
    """Keeps in mind what their table and columns are called now."""
    columns = {
        id_: ForeignColumn(name=now.name, number=now.number, type=now.type, stored=known.stored)
        if (now := theirs.columns.get(id_)) is not None
        else known
        for id_, known in attached.foreign.columns.items()
    }
    foreign = attached.foreign.model_copy(
        update={
            "place": theirs.schema,
            "name": theirs.table,
            "number": theirs.number,
            "columns": columns,
        }
    )
    types = watch.key_types(theirs.key)
    if foreign == attached.foreign and types == attached.key_types:
        return attached
    found = attached.model_copy(update={"foreign": foreign, "key_types": types})
    await storage.write(connection, table, found)
    if types != attached.key_types:
        await connection.execute(f"SET LOCAL lock_timeout = {_WRITERS_WAIT_MS}")
        await storage.retype_keys(connection, table, attached, types)
    return found
