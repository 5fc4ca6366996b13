"""Builds vector indexes beside reads and writes: CREATE INDEX CONCURRENTLY, watched, and cleaned up after."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal

from asyncpg import exceptions as pg

from vectable.backends.postgres.indexes import definition
from vectable.backends.postgres.layout import cells_name, index_name
from vectable.backends.refusals import not_found
from vectable.core.schema import Index, Table, Version
from vectable.drivers.postgres import Connection, PostgresDriver, ours
from vectable.errors import BackendError, BackendUnavailable, Conflict, IndexNotFound
from vectable.interfaces import Progress

_POLL_S = 0.25
_ATTEMPTS = 6
_MEMORY_MB = 64, 1_024
"""What a build may use, at least and at most; in between, what the graph needs to stay in memory."""
State = Literal["missing", "ready", "building", "invalid"]


async def build_index(driver: PostgresDriver, table: Table, index: Index, progress: Progress) -> None:
    """See `IndexBuilder`. Raises IndexNotFound when it is dropped meanwhile, TableNotFound."""
    version = next((v for _, v in table.versions if v.id == index.version), None)
    if version is None:
        raise IndexNotFound(f"index {index.name!r} has no vectors")
    for attempt in range(_ATTEMPTS):
        try:
            if await _brought_forward(driver, table, index, version, progress):
                return
        except BackendUnavailable:
            # The server went away in the middle, and left an index that is not valid.
            if attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(2**attempt)
    raise Conflict(f"index {index.name!r} is built by others, too", hint="try again later")


async def _brought_forward(
    driver: PostgresDriver, table: Table, index: Index, version: Version, progress: Progress
) -> bool:
    """One step towards an index that answers; whether it does."""
    state = await _state(driver, index)
    if state == "building":
        # By a connection of a process that is no more, which the server has not noticed.
        await _watch(driver, index, progress, None)
    elif state == "invalid":
        await drop_remains(driver, index)
    elif state == "missing":
        await _build(driver, table, index, version, progress)
    return state == "ready"


async def _state(driver: PostgresDriver, index: Index) -> State:
    async def look(connection: Connection) -> State:
        row = await connection.fetchrow(
            "SELECT x.indisvalid, EXISTS (SELECT FROM pg_stat_progress_create_index p"
            " WHERE p.index_relid = x.indexrelid)"
            " FROM pg_index x WHERE x.indexrelid = to_regclass($1)",
            ours(index_name(index)),
        )
        if row is None:
            return "missing"
        valid, building = row
        return "ready" if valid else "building" if building else "invalid"

    return await driver.read(look)


async def drop_remains(driver: PostgresDriver, index: Index) -> None:
    """Removes what an interrupted build left: it answers nothing, but every write pays for it."""
    async with driver.apart() as connection:
        await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {ours(index_name(index))}")


async def _build(
    driver: PostgresDriver, table: Table, index: Index, version: Version, progress: Progress
) -> None:
    async with driver.apart() as connection:
        rows = await _prepare(connection, table, index, version)
        progress(0, rows)
        cells = ours(cells_name(version.id))
        sql = f"ON {cells} {definition(index, version)}"
        work = asyncio.ensure_future(_create(connection, index_name(index), sql))
        try:
            await _watch(driver, index, lambda done, total: progress(done, max(rows, total)), work)
            await work
            # The planner has to know how many cells are ready, or it takes the index for a detour.
            await connection.execute(f"ANALYZE {cells}")
            progress(rows, rows)
        except BaseException as error:
            work.cancel()
            with contextlib.suppress(BaseException):
                await work
            if not connection.is_closed():
                connection.terminate()
            await _clean_up(driver, index)
            if isinstance(error, pg.QueryCanceledError):
                raise IndexNotFound(
                    f"the build of index {index.name!r} was stopped", hint="it may have been dropped"
                ) from error
            raise


async def _clean_up(driver: PostgresDriver, index: Index) -> None:
    """As far as it goes: what stays is removed by the next build, or with the index's definition."""
    await _stop(driver, index)
    with contextlib.suppress(BackendError):
        if await _state(driver, index) != "ready":
            await drop_remains(driver, index)


async def _stop(driver: PostgresDriver, index: Index) -> None:
    """A statement whose client has gone is told to end, too."""
    with contextlib.suppress(BackendError):
        for _ in range(40):
            stopped = await driver.read(
                lambda connection: connection.fetchval(
                    "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_progress_create_index"
                    " WHERE index_relid = to_regclass($1)",
                    ours(index_name(index)),
                )
            )
            if not stopped:
                return
            await asyncio.sleep(_POLL_S)


async def _prepare(connection: Connection, table: Table, index: Index, version: Version) -> int:
    """How many vectors there are to index, the session's memory set to hold them."""
    try:
        rows = await connection.fetchval(
            f"SELECT count(*) FROM {ours(cells_name(version.id))} WHERE vector IS NOT NULL"
        )
    except pg.UndefinedTableError as error:
        raise not_found(table) from error
    links = 16 * int(index.parameters.get("m", 16))
    needed = rows * (version.dimensions * 4 + links + 200) * 5 // 4 >> 20
    least, most = _MEMORY_MB
    await connection.execute(f"SET maintenance_work_mem = '{min(most, max(least, needed))}MB'")
    return int(rows)


async def _create(connection: Connection, name: str, sql: str) -> None:
    create = f"CREATE INDEX CONCURRENTLY {name} {sql}"
    try:
        await connection.execute(create)
    except (pg.DiskFullError, pg.OutOfMemoryError):
        # Workers share memory, of which containers often have little.
        await connection.execute("SET max_parallel_maintenance_workers = 0")
        await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {ours(name)}")
        await connection.execute(create)


async def _watch(
    driver: PostgresDriver, index: Index, progress: Progress, work: asyncio.Future[None] | None
) -> None:
    """Tells how far the server has come, until it is done. With `work`, that is what is waited for."""
    while work is None or not work.done():
        if work is not None:
            await asyncio.wait([work], timeout=_POLL_S)
            if work.done():
                return
        found = await driver.read(
            lambda connection: connection.fetchrow(
                "SELECT tuples_done, tuples_total, blocks_done, blocks_total"
                " FROM pg_stat_progress_create_index WHERE index_relid = to_regclass($1)",
                ours(index_name(index)),
            )
        )
        if found is not None:
            progress(*_far(*found))
        elif work is None:
            return
        if work is None:
            await asyncio.sleep(_POLL_S)


def _far(tuples: int, all_tuples: int, blocks: int, all_blocks: int) -> tuple[int, int]:
    if all_tuples:
        return min(tuples, all_tuples), all_tuples
    return tuples, max(tuples, 0)
