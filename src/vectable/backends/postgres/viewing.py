"""Opens views: takes a connection, fixes the moment, and makes sure that it knows where the rows are."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from vectable.backends.postgres.layout import XID, Layouts, Place, cells_name
from vectable.backends.postgres.place import find_place
from vectable.backends.postgres.standing import (
    Snapshot,
    Standing,
    any_changed_since,
    make_mark,
    parse_mark,
    snapshot_of,
)
from vectable.backends.postgres.view import GONE, PostgresView
from vectable.backends.refusals import gone, not_found
from vectable.core.mark import Mark
from vectable.core.schema import Table
from vectable.drivers.postgres import Connection, PostgresDriver, ours
from vectable.errors import BackendBusy

_ATTEMPTS = 20
_CLOSE_S = 5.0
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_PLANNED_ANEW = "SET LOCAL plan_cache_mode = force_custom_plan"
"""A queue may hold nothing now and a hundred thousand keys in a second: no plan is good for both."""


@dataclass(frozen=True, slots=True)
class Known:
    """`mark`'s contents were still the table's at `snapshot`, in the definition of `generation`."""

    generation: int
    mark: Mark
    snapshot: Snapshot


class Places:
    """Where tables are and what their last known marks are, shared by a backend's views and writes.

    Snapshots move with every transaction of the whole server. So that equal marks are found where nothing
    changed, a view keeps the last mark while nothing of its table has changed since."""

    def __init__(self, driver: PostgresDriver) -> None:
        self._driver = driver
        self.layouts = Layouts()
        self.known: dict[str, Known] = {}

    async def of(self, table: Table) -> Place:
        """Where the rows were last seen. Raises TableNotFound."""
        place = self.layouts.place(table.id)
        if place is not None:
            return place
        place = await self._driver.read(lambda connection: find_place(connection, table))
        if place is None:
            raise not_found(table)
        self.layouts.of(table, place)
        return place

    def forget(self, table: Table) -> None:
        """The table has been altered."""
        self.layouts.forget(table.id)
        self.known.pop(table.id, None)


class Viewing:
    """`async with Viewing(…) as view`: takes a connection, gives it back."""

    def __init__(self, driver: PostgresDriver, places: Places, table: Table, at_least: Mark | None) -> None:
        self._driver = driver
        self._places = places
        self._table = table
        self._at_least = at_least
        self._taken: AbstractAsyncContextManager[Connection] | None = None
        self._connection: Connection | None = None

    async def __aenter__(self) -> PostgresView:
        table = self._table
        for _ in range(_ATTEMPTS):
            place = await self._places.of(table)
            # A connection that was fine when it was given back may be gone by now.
            view = await self._driver.repeated(partial(self._open, place))
            if view is not None:
                return view
            self._places.forget(table)
        raise BackendBusy(f"table {table.full_name!r} keeps being altered", hint="try again")

    async def _open(self, place: Place) -> PostgresView | None:
        """None where the rows are not, or no more, at `place`."""
        self._taken = self._driver.connection()
        self._connection = connection = await self._taken.__aenter__()
        try:
            # Whoever alters the table waits until the view is closed; else names could be exchanged between
            # the moment of this view and a statement of it. A lock by itself fixes no moment yet.
            try:
                begin = _BEGIN if place.queue is None else f"{_BEGIN}; {_PLANNED_ANEW}"
                await connection.execute(f"{begin}; LOCK TABLE {place.rows} IN ACCESS SHARE MODE")
                standing, mark = await self._look(connection, place)
            except GONE:
                await self._close(None, None, None)
                return None
            if standing.generation != place.generation:
                await self._close(None, None, None)
                return None
            if self._at_least is not None:
                snapshot_of(self._at_least, connection.incarnation, self._table, standing.snapshot)
            layout = self._places.layouts.of(self._table, place)
            if standing.generation != self._table.generation and layout.missing:
                raise gone(f"{layout.missing[0]!r}")
            lost = partial(self._places.forget, self._table)
            return PostgresView(self._driver, connection, layout, standing, mark, lost)
        except BaseException as error:
            await self._close(type(error), error, error.__traceback__)
            raise

    async def _look(self, connection: Connection, place: Place) -> tuple[Standing, Mark]:
        """Fixes the moment: where the table stands, and the mark."""
        table, last = self._table, self._places.known.get(self._table.id)
        known = last if last is not None and last.generation == place.generation else None
        if known is not None and parse_mark(known.mark, connection.incarnation, table) is None:
            known = None  # the server has crashed since
        if known is None:
            row = await connection.fetchrow(f"SELECT {_STANDING}, TRUE {_OF_TABLE}", table.id)
        else:
            sql = f"SELECT {_STANDING}, {any_changed_since(sources_of(place), '$2')} {_OF_TABLE}"
            row = await connection.fetchrow(sql, table.id, str(known.snapshot))
        if row is None:
            raise not_found(table)
        generation, floor, text, changed = row
        snapshot = Snapshot.told(text)
        standing = Standing(generation, int(floor), snapshot)
        mark = make_mark(connection.incarnation, table, snapshot)
        if known is not None and not changed:
            mark = known.mark
        if generation == place.generation and self._places.known.get(table.id) is last:
            self._places.known[table.id] = Known(generation, mark, snapshot)
        return standing, mark

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close(kind, error, trace)

    async def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        taken, connection = self._taken, self._connection
        self._taken = self._connection = None
        if taken is None or connection is None:
            return
        try:
            # After an interruption it may be in the middle of a statement: then it is given up as it is.
            if not connection.is_closed() and (error is None or isinstance(error, Exception)):
                with self._driver.translated:
                    await connection.execute("ROLLBACK", timeout=_CLOSE_S)
        except Exception:
            connection.terminate()
        finally:
            await taken.__aexit__(None if error is None or isinstance(error, Exception) else kind, None, None)


_STANDING = "t.generation, t.floor::text, pg_current_snapshot()::text"
_OF_TABLE = "FROM vectable.tables t WHERE t.id = $1"


def sources_of(place: Place) -> list[tuple[str, str]]:
    """What of the table changes: each source, and its column of transactions."""
    sources = [(f"{place.rows} AS r", f"r.{XID}"), (f"{place.tombstones} AS d", "d.xid")]
    sources += [(f"{ours(cells_name(v))} AS v", "v.xid") for v in sorted(place.versions)]
    return sources if place.queue is None else [*sources, (f"{place.queue} AS q", "q.xid")]
