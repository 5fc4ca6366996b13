"""Attaching a table that others own: defined, watched and filled, in steps that may all be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vectable.core.context import Context
from vectable.core.foreign import ForeignTables
from vectable.core.schema import Column, Foreign, Table
from vectable.engine.catalog import Catalog
from vectable.engine.columns import EmbeddingColumns
from vectable.engine.jobs import Jobs, Progress
from vectable.engine.refresh import Refresher
from vectable.errors import AlreadyExists, BackendBusy, Conflict, InvalidInput, TableNotFound, Unsupported

_ATTEMPTS = 10
_PAUSE_S = 0.3


@dataclass(frozen=True, slots=True)
class Attached:
    """An attached table, its embedding column (None: none was asked for), and the job that fills it."""

    table: Table
    column: Column | None
    job: str


class Attacher:
    """Attaches tables of others and lets go of them. `foreign` None: this database has no such tables."""

    def __init__(
        self,
        foreign: ForeignTables | None,
        catalog: Catalog,
        columns: EmbeddingColumns,
        refresher: Refresher,
        jobs: Jobs,
    ) -> None:
        self._foreign = foreign
        self._catalog = catalog
        self._columns = columns
        self._refresher = refresher
        self._jobs = jobs
        jobs.register("attach", self._fill_job)

    async def attach(
        self,
        context: Context,
        source: str,
        *,
        place: str | None = None,
        name: str | None = None,
        column: Mapping[str, Any] | None = None,
        poll: bool = False,
        updated_at: str | None = None,
    ) -> Attached:
        """The table `source` of others (`place`: its schema) as a table called `name`, by default its own,
        with the embedding column that `column` describes (`EmbeddingColumns.add`). Attached already, it gets
        what is missing. `poll`: no triggers. Raises TableNotFound, AlreadyExists, Unsupported, AccessDenied,
        and what adding an embedding column raises."""
        foreign = self._required()
        wanted = await foreign.look(source, place, updated_at)
        table = await self._found(context, wanted, name)
        if table is None:
            wanted = self._catalog.called(context, wanted, name or wanted.name)
            if poll and wanted.foreign is not None:
                kept = wanted.foreign.model_copy(update={"watch": "poll"})
                wanted = wanted.model_copy(update={"foreign": kept})
            if column is not None:
                # Whatever is wrong with it is said before anything is made.
                await self._columns.prepared(wanted, **column)
            table = await self._catalog.enter(wanted)
        else:
            table = await self._enlarged(table, wanted)
        made = None
        if column is not None:
            table, made, _ = await self._columns.add(context, table.full_name, **column, if_exists="ok")
        if not await self.watch(table):
            await foreign.compare(table)
        total = await foreign.estimate(table)
        job = await self._jobs.start("attach", table.full_name, {"table": table.id}, total)
        return Attached(table, made, job)

    async def detach(self, context: Context, name: str, *, keep_cache: bool = False) -> None:
        """Lets go of an attached table: everything of ours about it is removed, nothing of theirs. With the
        last table goes, as the database is closed by the last who has it open, all that was made for any,
        unless `keep_cache`. Raises TableNotFound, InvalidInput for one that is not attached."""
        table = await self._catalog.get(context, name)
        if table.foreign is None:
            raise InvalidInput(
                f"table {table.full_name!r} is not attached: its rows are Vectable's",
                hint="drop it to remove it with its rows",
            )
        await self._catalog.drop(context, name, leaving=not keep_cache)

    async def describe(self, table: Table) -> dict[str, Any]:
        """What there is to tell of an attached table: `told`, `views`."""
        return await self._required().describe(table)

    def _required(self) -> ForeignTables:
        if self._foreign is None:
            raise Unsupported(
                "only a PostgreSQL database has tables of others to attach",
                hint="open one: postgresql://USER@HOST/DATABASE",
            )
        return self._foreign

    async def _found(self, context: Context, wanted: Table, name: str | None) -> Table | None:
        """The table that shows theirs already."""
        if wanted.foreign is None:
            return None
        place = (wanted.foreign.place, wanted.foreign.name)
        for table in await self._catalog.list(context):
            known = table.foreign
            if known is None or (
                known.number != wanted.foreign.number and (known.place, known.name) != place
            ):
                continue
            if name is not None and table.full_name != self._catalog.called(context, wanted, name).full_name:
                raise AlreadyExists(
                    f"{place[0]}.{place[1]} is attached already, as {table.full_name!r}",
                    hint="use that table, rename it, or detach it first",
                )
            return table
        return None

    async def _enlarged(self, table: Table, wanted: Table) -> Table:
        """The table with the columns that theirs has got since. Raises Conflict when its key is another."""
        known, new = table.foreign, wanted.foreign
        if known is None or new is None:
            return table
        same = known.number == new.number

        def place(foreign: Foreign, id_: str) -> int | str:
            column = foreign.columns[id_]
            return column.number if same else column.name

        before = [(place(known, c.id), c.type) for c in table.key_columns]
        if before != [(place(new, c.id), c.type) for c in wanted.key_columns]:
            raise Conflict(
                f"the key of {new.place}.{new.name} is another than when it was attached",
                hint=f"detach {table.full_name!r}, then attach it again: what is cached is not embedded anew",
            )
        have = {place(known, id_) for id_ in known.columns}
        taken = {c.name for c in table.columns}
        added = [c for c in wanted.stored_columns if place(new, c.id) not in have]
        if not added:
            return table
        renamed = tuple(
            c if c.name not in taken else c.model_copy(update={"name": f"{c.name[:54]}_{c.id[:8]}"})
            for c in added
        )
        foreign = known.model_copy(
            update={"columns": {**known.columns, **{c.id: new.columns[c.id] for c in added}}}
        )
        return await self._catalog.change(
            table.id, "redefine", lambda t: (*t.columns, *renamed), foreign=foreign
        )

    async def watch(self, table: Table) -> bool:
        """Whether triggers tell of changes, installed now where they were not. Where writers leave no room
        for that, they come later."""
        foreign = self._required()
        for _ in range(_ATTEMPTS):
            try:
                return await foreign.watch(table)
            except BackendBusy:
                await asyncio.sleep(_PAUSE_S)
        return False

    async def _fill_job(self, payload: dict[str, Any], progress: Progress) -> None:
        """Notices every row, then embeds what there is to embed."""
        foreign = self._required()
        while True:
            table = await self._catalog.by_id(payload["table"])
            if table is None:
                raise TableNotFound("the table was detached meanwhile")
            noticed = await foreign.notice(table)
            if noticed is None:
                await asyncio.sleep(0.05)
            elif not noticed.more:
                break
        await self._refresher.drain(payload["table"], progress)
