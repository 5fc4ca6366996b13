"""The catalogue: which tables exist and how they are defined, changed in steps that survive a crash.

A definition and its storage cannot change in one transaction on every backend. So the intended definition is
recorded first (`next`), storage follows, and then the record is settled. Whoever meets an unsettled record
finishes it; every step may be repeated.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

from vectable.core.context import Context
from vectable.core.mark import Mark
from vectable.core.predicate import TRUE
from vectable.core.schema import Column, Index, Table, Version, check_name, split_table_name
from vectable.engine.change import LEAVING, REFUSALS, REVISION, Change, Kind, Record, name_key, record_key
from vectable.engine.definitions import (
    check_droppable,
    check_if_exists,
    check_new_column,
    check_ours,
    now,
    parse_columns,
    parse_key,
    renamed_columns,
    without_values,
)
from vectable.engine.search import drive
from vectable.engine.stored import stored_model
from vectable.errors import (
    AlreadyExists,
    BackendError,
    Conflict,
    MarkExpired,
    StaleGeneration,
    TableNotFound,
    did_you_mean,
)
from vectable.interfaces import Backend, Noted, StateStore, View

log = logging.getLogger(__name__)


class Catalog:
    """Definitions by name. Reads notice other processes' changes at once."""

    def __init__(self, state: StateStore, backend: Backend) -> None:
        self._state = state
        self._backend = backend
        self._revision = -1
        self._names: dict[tuple[str, str], str] = {}
        self._tables: dict[str, Table] = {}
        self.marks: dict[str, Mark] = {}
        """This process's last write per table id: what its own reads must see at least."""
        self.leaving = False
        """Whether, as last seen, nothing of ours is to stay once nobody has the database open."""

    async def get(self, context: Context, name: str) -> Table:
        """The definition of table `name`. Raises TableNotFound."""
        where = self._split(context, name)
        await self._refresh()
        table_id = self._names.get(where)
        if table_id is None:
            known = [t.full_name for t in self._tables.values()]
            raise TableNotFound(f"there is no table {name!r}", hint=did_you_mean(name, known, "tables"))
        return self._tables[table_id]

    def peek(self, context: Context, name: str) -> Table | None:
        """`get` on the calling thread, where the state store answers without suspending; None when the
        catalogue must be read anew, or has no such table. Thread-safe."""
        entry = drive(self._state.get([REVISION])).get(REVISION)
        if (entry.revision if entry else 0) != self._revision:
            return None
        return self._tables.get(self._names.get(self._split(context, name), ""))

    def held(self, context: Context, name: str) -> tuple[Table, Noted] | None:
        """The definition as it was last seen, and what proves it when it still holds; None where there is
        none such. Thread-safe."""
        noted = Noted(REVISION, self._revision)  # first: definitions only get newer than what is noted
        table = self._tables.get(self._names.get(self._split(context, name), ""))
        return None if table is None or noted.revision <= 0 else (table, noted)

    @asynccontextmanager
    async def view(self, table: Table) -> AsyncIterator[View]:
        """The table as it is now, everything this process wrote included. Raises StaleGeneration,
        TableNotFound."""
        async with AsyncExitStack() as stack:
            try:
                found = await stack.enter_async_context(self._backend.view(table, self.marks.get(table.id)))
            except MarkExpired:
                self.forget_mark(table)
                found = await stack.enter_async_context(self._backend.view(table))
            yield found

    def forget_mark(self, table: Table) -> bool:
        """After MarkExpired: what this process wrote is from before a restore. Whether there was a mark."""
        return self.marks.pop(table.id, None) is not None

    async def by_id(self, table_id: str) -> Table | None:
        """The definition with that id, under whatever name; None when it was dropped."""
        await self._refresh()
        return self._tables.get(table_id)

    async def list(self, context: Context, namespace: str | None = None) -> list[Table]:
        """Every table (of one namespace), by full name."""
        await self._refresh()
        found = [t for t in self._tables.values() if namespace in (None, t.namespace)]
        return sorted(found, key=lambda t: (t.namespace, t.name))

    async def create(
        self,
        context: Context,
        name: str,
        columns: Mapping[str, Any],
        key: Sequence[str] | None = None,
        if_exists: Literal["error", "ok"] = "error",
    ) -> Table:
        """A new table. Raises AlreadyExists (unless `if_exists="ok"`, which returns the table there is)."""
        check_if_exists(if_exists)
        namespace, table_name = self._split(context, name)
        definitions = parse_columns(columns, key)
        table = Table(
            namespace=namespace,
            name=table_name,
            key=parse_key(definitions, key),
            columns=definitions,
            created_at=now(),
        )
        try:
            return await self.enter(table)
        except AlreadyExists:
            if if_exists == "ok":
                return await self.get(context, name)
            raise

    async def enter(self, table: Table) -> Table:
        """A new table of that definition, under the name it has. Raises AlreadyExists."""
        await self._refresh()
        taken = AlreadyExists(
            f"a table {table.full_name!r} exists already", hint="choose another name, or if_exists='ok'"
        )
        if (table.namespace, table.name) in self._names:
            raise taken
        record = Record(next=Change(kind="create_table", table=table))
        try:
            name = name_key(table)
            await self._commit({name: 0}, {name: table.id.encode()}, table.id, record, 0, [LEAVING])
        except Conflict:
            raise taken from None
        await self._settle(table.id, ours=True)
        found = await self.by_id(table.id)
        if found is None:
            raise TableNotFound(f"table {table.full_name!r} was dropped meanwhile")
        return found

    def called(self, context: Context, table: Table, name: str) -> Table:
        """The definition under the name `name`, made now."""
        namespace, plain = self._split(context, name)
        return table.model_copy(update={"namespace": namespace, "name": plain, "created_at": now()})

    async def adopt(self, table: Table, notes: Mapping[str, bytes]) -> None:
        """Enters a table whose storage is there already, under the name it has; `notes` enter the state store
        with it. Raises AlreadyExists when its name or id is taken."""
        record = Record(table=table)
        puts = {name_key(table): table.id.encode(), **notes}
        try:
            await self._commit({name_key(table): 0}, puts, table.id, record, 0, [LEAVING])
        except Conflict:
            raise AlreadyExists(f"a table {table.full_name!r} exists already") from None

    async def rename(self, context: Context, name: str, new: str) -> Table:
        """The same table under another name; nothing is copied."""
        table, revision = await self._settled((await self.get(context, name)).id)
        namespace, table_name = self._split(context, new)
        renamed = table.model_copy(update={"namespace": namespace, "name": table_name})
        if (namespace, table_name) == (table.namespace, table.name):
            return table
        try:
            await self._commit(
                {name_key(renamed): 0},
                {name_key(renamed): table.id.encode()},
                table.id,
                Record(table=renamed),
                revision,
                deletes=[name_key(table)],
            )
        except Conflict:
            await self._refresh()
            if (namespace, table_name) in self._names:
                raise AlreadyExists(f"a table {new!r} exists already") from None
            raise
        return await self.get(context, new)

    async def drop(
        self, context: Context, name: str, missing_ok: bool = False, leaving: bool | None = None
    ) -> None:
        """Removes the table, its rows, vectors and indexes. Raises Unsupported for an attached one, whose
        rows are others' and stay, unless `leaving` says whether, with the last one, all of ours is to go."""
        try:
            table = await self.get(context, name)
        except TableNotFound:
            if missing_ok:
                return
            raise
        if leaving is None:
            check_ours(table, "dropped", hint=f"detach it: vectable detach URL {table.full_name}")
        table, revision = await self._settled(table.id)
        record = Record(next=Change(kind="drop_table", table=table))
        notes, gone = ({LEAVING: b""}, []) if leaving else ({}, [LEAVING])
        await self._commit({}, notes, table.id, record, revision, deletes=[name_key(table), *gone])
        await self._settle(table.id)
        self.leaving = bool(leaving)

    async def add_columns(self, context: Context, name: str, columns: Mapping[str, Any]) -> Table:
        """Adds columns, one after the other; rows there already get the default, else null."""
        table = check_ours(await self.get(context, name), "given columns")
        new = parse_columns(columns, None, complete=False)
        for column in new:
            check_new_column(table, column)
        for column in new:
            await self._require_empty_or_fillable(table, column)
        for column in new:
            table = await self.change(
                table.id,
                "add_column",
                lambda t, c=column: (*t.columns, check_new_column(t, c)),
                column=column,
            )
        return table

    async def _require_empty_or_fillable(self, table: Table, column: Column) -> None:
        if column.nullable or column.default is not None:
            return
        async with self.view(table) as view:
            if await view.count(self._backend.push(table, TRUE)):
                raise without_values(column)

    async def drop_columns(self, context: Context, name: str, names: Sequence[str]) -> Table:
        """Removes columns with their values, vectors and indexes. Raises Conflict while an embedding column
        is made from one of them."""
        table = await self.get(context, name)
        columns = check_droppable(table, names)
        if any(c.embedding is None for c in columns):
            check_ours(table, "deprived of columns")
        for column in columns:
            table = await self.change(
                table.id,
                "drop_column",
                lambda t, c=column: tuple(x for x in t.columns if x.id != c.id),
                column=column,
                indexes=lambda t, c=column: tuple(i for i in t.indexes if i.column != c.id),
            )
        return table

    async def rename_column(self, context: Context, name: str, old: str, new: str) -> Table:
        """The same column under another name; templates that use it follow."""
        table = await self.get(context, name)
        check_name(new, "column")
        table.column(old)
        if old == new:
            return table
        return await self.change(table.id, "redefine", lambda t: renamed_columns(t, old, new))

    async def change(
        self,
        table_id: str,
        kind: Kind,
        columns: Any = None,
        *,
        indexes: Any = None,
        foreign: Any = None,
        column: Column | None = None,
        version: Version | None = None,
        index: Index | None = None,
        notes: Mapping[str, bytes] | None = None,
    ) -> Table:
        """One step of a definition: `columns` and `indexes` map the current definition to the new value;
        `notes` enter the state store with it. Tried again when another's change came between. Raises
        TableNotFound."""
        for _ in range(20):
            table, revision = await self._settled(table_id)
            updates: dict[str, Any] = {} if foreign is None else {"foreign": foreign}
            if columns is not None:
                updates["columns"] = columns(table)
            if indexes is not None:
                updates["indexes"] = indexes(table)
            after = table.replace(**updates)
            step = Change(kind=kind, table=after, column=column, version=version, index=index)
            try:
                await self._commit({}, notes or {}, table_id, Record(table=table, next=step), revision)
            except Conflict:
                continue
            await self._settle(table_id, ours=True)
            settled = await self.by_id(table_id)
            if settled is not None:
                return settled
        raise Conflict("the table's definition kept changing", hint="try again")

    def _split(self, context: Context, name: str) -> tuple[str, str]:
        namespace, table = split_table_name(name)
        return (namespace if "." in name else context.namespace), table

    async def _settled(self, table_id: str) -> tuple[Table, int]:
        """The settled definition, with the revision of its record."""
        for _ in range(20):
            entry = (await self._state.get([record_key(table_id)])).get(record_key(table_id))
            if entry is None:
                raise TableNotFound("the table was dropped meanwhile")
            record = stored_model(Record, record_key(table_id), entry)
            if record.next is None and record.table is not None:
                return record.table, entry.revision
            await self._settle(table_id)
        raise Conflict("the table's definition kept changing", hint="try again")

    async def _commit(
        self,
        expects: Mapping[str, int],
        puts: Mapping[str, bytes],
        table_id: str,
        record: Record,
        revision: int,
        deletes: Sequence[str] = (),
    ) -> None:
        key = record_key(table_id)
        written = {**puts, key: record.model_dump_json().encode(), REVISION: b"1"}
        await self._state.commit({**expects, key: revision}, written, deletes)

    async def _settle(self, table_id: str, ours: bool = False) -> None:
        """Brings storage to the recorded intention, then the record to rest. Safe to run anywhere, twice.
        `ours`: recorded by this process."""
        key = record_key(table_id)
        entry = (await self._state.get([key])).get(key)
        if entry is None:
            return
        record = stored_model(Record, key, entry)
        change = record.next
        if change is None:
            return
        try:
            await self._backend.alter(change.table, change.for_storage())
        except StaleGeneration:
            return  # another process settled this change and went on
        except (*REFUSALS, BackendError) as error:
            if change.is_refused_by(error, ours):
                with contextlib.suppress(Conflict):
                    await self._withdraw(record, change, entry.revision)
            raise
        try:
            if change.kind == "drop_table":
                await self._state.commit({key: entry.revision}, {REVISION: b"1"}, [key])
            else:
                await self._commit({}, {}, table_id, Record(table=change.table), entry.revision)
        except Conflict:
            return  # settled by another process between our read and our commit

    async def _withdraw(self, record: Record, change: Change, revision: int) -> None:
        """Gives up what storage will not do, so that nobody tries it again."""
        key = record_key(change.table.id)
        if record.table is not None:
            await self._commit({}, {}, change.table.id, Record(table=record.table), revision)
        elif change.kind == "create_table":
            await self._state.commit({key: revision}, {REVISION: b"1"}, [key, name_key(change.table)])

    async def _refresh(self) -> None:
        found = await self._state.get([REVISION, LEAVING])
        self.leaving = LEAVING in found
        revision = found[REVISION].revision if REVISION in found else 0
        if revision == self._revision:
            return
        tables: dict[str, Table] = {}
        unsettled = []
        for key, entry in (await self._state.scan("table/")).items():
            record = stored_model(Record, key, entry)
            if record.next is not None:
                unsettled.append(key.removeprefix("table/"))
            if record.table is not None:
                tables[record.table.id] = record.table
        if unsettled and await self._settled_all(unsettled):
            await self._refresh()
            return
        self._tables = tables
        self._names = {(t.namespace, t.name): t.id for t in tables.values()}
        self._revision = -1 if unsettled else revision

    async def _settled_all(self, table_ids: Sequence[str]) -> bool:
        """False where nothing can be written now: then the definitions from before the changes hold."""
        try:
            for table_id in table_ids:
                with contextlib.suppress(*REFUSALS):
                    await self._settle(table_id)
        except BackendError as error:
            log.warning("a change of a table's definition waits to be finished: %s", error)
            return False
        return True
