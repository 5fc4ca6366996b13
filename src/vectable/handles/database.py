"""A database, asynchronous: thin over its engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from vectable.config import Settings
from vectable.core.context import LOCAL, Context
from vectable.core.schema import Table
from vectable.core.vectors import Matrix
from vectable.errors import InvalidInput, Unsupported
from vectable.handles.chain import embeddable
from vectable.handles.progress import fetching, progress
from vectable.handles.table import AsyncTable

if TYPE_CHECKING:
    from vectable.database import Database as Engine
    from vectable.engine.jobs import Job
    from vectable.interfaces import ModelCard, Purpose


class AsyncDatabase:
    """An open database. Use it on the event loop that opened it, as `async with await connect_async(…) as
    db`."""

    def __init__(self, engine: Engine, context: Context = LOCAL) -> None:
        self._engine: Engine | None = engine
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._url = engine.url
        self.context = context
        """Who asks, and within what bounds."""
        self.definitions: dict[str, Table] = {}
        """Tables by full name, as last seen through this handle."""

    @property
    def engine(self) -> Engine:
        """What does the work. Raises Unsupported when closed, after a fork, or on another event loop."""
        engine = self._anywhere
        if asyncio.get_running_loop() is not self._loop:
            raise Unsupported(
                "this handle belongs to another event loop",
                hint="call connect_async on the loop that uses it",
            )
        return engine

    @property
    def _anywhere(self) -> Engine:
        """The engine, for what may be asked of it on any thread."""
        if self._engine is None:
            raise Unsupported(f"the database {self._url} is closed", hint="connect again")
        if os.getpid() != self._process:
            raise Unsupported(
                "this handle belongs to another process: it was made before a fork",
                hint="connect in the process that uses it, or start workers with the spawn method",
            )
        return self._engine

    @property
    def url(self) -> str:
        """Where it is: a directory, or "memory:"."""
        return self._url

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._engine is None

    # -- tables ----------------------------------------------------------------------------------------------

    async def create_table(
        self,
        name: str,
        columns: Mapping[str, str | Mapping[str, Any]],
        *,
        key: str | Sequence[str] | None = None,
        if_exists: Literal["error", "ok"] = "error",
    ) -> AsyncTable:
        """A new table. `columns`: {"title": "string", "stars": {"type": "int", "nullable": False,
        "default": 0}, "emb": {"type": "vector", "dimensions": 384}}; types are string int float bool
        timestamp json string[] int[] float[] image vector. Unless `key` names columns, the key is `id:
        string`, made up where not given. Raises AlreadyExists (`if_exists="ok"`: opens the table there is),
        InvalidInput."""
        keys = [key] if isinstance(key, str) else key
        return AsyncTable(
            self, await self.engine.catalog.create(self.context, name, columns, keys, if_exists)
        )

    async def table(self, name: str) -> AsyncTable:
        """The table of that name, or "namespace.table". Raises TableNotFound, with what there is."""
        return AsyncTable(self, await self.engine.catalog.get(self.context, name))

    async def tables(self, namespace: str | None = None) -> list[AsyncTable]:
        """Every table (of one namespace), by name."""
        return [AsyncTable(self, t) for t in await self.engine.catalog.list(self.context, namespace)]

    async def rename_table(self, old: str, new: str) -> AsyncTable:
        """Gives a table another name; nothing is copied. Raises TableNotFound, AlreadyExists."""
        renamed = await self.engine.catalog.rename(self.context, old, new)
        self.definitions.pop(old, None)
        return AsyncTable(self, renamed)

    async def drop_table(self, name: str, *, missing_ok: bool = False) -> None:
        """Removes a table with its rows, vectors and indexes. Raises TableNotFound unless `missing_ok`."""
        await self.engine.catalog.drop(self.context, name, missing_ok)
        self.definitions.pop(name, None)

    # -- tables of others ------------------------------------------------------------------------------------

    async def attach(
        self,
        table: str,
        *,
        embed: str | None = None,
        model: str | None = None,
        name: str | None = None,
        column: str | None = None,
        metric: str = "cosine",
        schema: str | None = None,
        poll: bool = False,
        updated_at: str | None = None,
        wait: bool = True,
    ) -> AsyncTable:
        """Enriches a table that others own, in a PostgreSQL database: `table`, or "schema.table" (a name with
        dots: give `schema`). Nothing of it changes; its rows are searched here as those of any table, called
        `name` (by default the same), but written with SQL alone: who has the database open notices that
        within seconds. `embed` is a column, or a template over several ("{title}\n{teaches}"), to be embedded
        by `model` as the column `column` (by default SOURCE_embedding). Called again with another, it adds
        that one.

        Changes are told by triggers that do nothing but queue keys, where the role may install them. Else, or
        with `poll`, they are looked for, by the column of timestamps `updated_at` (by default one called so)
        where there is one. `wait` stays until everything is embedded, showing progress. Raises TableNotFound,
        Unsupported (no key, a view, no server), AccessDenied, AlreadyExists, UnknownColumn, InvalidInput,
        ModelNotFound, ModelUnavailable."""
        from vectable.handles.attaching import attach

        definition, job = await attach(
            self.engine,
            self.context,
            table,
            embed=embed,
            model=model,
            name=name,
            column=column,
            metric=metric,
            schema=schema,
            poll=poll,
            updated_at=updated_at,
        )
        if wait:
            await self.wait(job, f"attach {definition.full_name}")
        return AsyncTable(self, definition)

    async def detach(self, name: str, *, keep_cache: bool = False) -> None:
        """Lets go of an attached table: our vectors, views and triggers are removed, and the table of others
        is as if we had never been there. If that was the last table, the last process to close the database
        removes the schema `vectable` too, the embedding cache included, unless `keep_cache` says otherwise or
        a table was made since. Raises TableNotFound, InvalidInput for a table of our own, BackendBusy while
        its writers leave no room."""
        await self.engine.attacher.detach(self.context, name, keep_cache=keep_cache)
        self.definitions.pop(name, None)

    # -- models ----------------------------------------------------------------------------------------------

    async def embed(
        self,
        items: Any,
        *,
        model: str | None = None,
        purpose: Purpose = "document",
        cache: bool = True,
        normalize: bool = True,
    ) -> Matrix:
        """Vectors of texts or images (as `similar` takes them): float32[n, dimensions] of a list,
        float32[dimensions] of one. `purpose`: "document" or "query", which some models embed differently.
        Raises InvalidInput, ModelNotFound, ModelUnavailable, Unsupported, ProviderError."""
        if purpose not in ("document", "query"):
            raise InvalidInput(f"purpose is document or query, not {purpose!r}")
        many = isinstance(items, (list, tuple))
        with fetching(self.engine.embedder.models, model):
            encoded = await self.engine.embedder.encode(
                [embeddable(i) for i in (items if many else [items])],
                model,
                purpose=purpose,
                cache=cache,
                normalize_vectors=normalize,
            )
        return encoded.vectors if many else encoded.vectors[0]

    async def models(self) -> list[ModelCard]:
        """The models known here: id, dimensions, whether weights are on this machine, whether loaded."""
        return self.engine.embedder.cards()

    # -- jobs ------------------------------------------------------------------------------------------------

    async def jobs(self) -> list[Job]:
        """Every job still known, the newest first."""
        return await self.engine.jobs.list(self.context)

    async def job(self, job_id: str) -> Job:
        """One job as it is now. Raises JobNotFound."""
        return await self.engine.jobs.get(job_id)

    async def cancel_job(self, job_id: str) -> Job:
        """Asks a job to stop; what it did stays. Raises JobNotFound."""
        return await self.engine.jobs.cancel(job_id)

    async def wait(self, job_id: str, label: str | None = None) -> Job:
        """The job once it has ended, showing progress in a terminal or notebook. Interrupting leaves it
        running. Raises JobNotFound."""
        found = await self.job(job_id)
        with progress(label or f"{found.kind} {found.table}", "cells") as update:
            async for found in self.engine.jobs.events(job_id):
                update(found.done, found.total or None)
        return found

    # -- the whole -------------------------------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        """url, backend, tables, rows, bytes, jobs, caches, models: JSON-ready."""
        return await self.engine.status()

    async def backup(self, file: str | Path, *, overwrite: bool = False) -> None:
        """Writes a consistent copy of everything to one file, while the database is used. Raises
        AlreadyExists unless `overwrite`, DiskFull."""
        with progress(f"backup to {Path(file).name}", "pages") as update:
            await self.engine.backup(
                file, overwrite=overwrite, progress=lambda done, total: update(done, total or None)
            )

    async def close(self) -> None:
        """Stops this process's jobs (the next one takes them up) and closes files. May be called twice."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r}{', closed' if self.closed else ''})"


async def connect_async(path_or_url: str | Path | None = None, **settings: Any) -> AsyncDatabase:
    """Opens a database: a directory, "sqlite:///directory" or "memory:"; by default VECTABLE_DB, else
    ./vectable-data. `settings` are the fields of `vectable.config.Settings`; what is not given comes from
    VECTABLE_* variables. Raises InvalidInput, DatabaseNewer, DatabaseDamaged, ReadOnlyDatabase."""
    from vectable.database import Database

    found = Settings.from_environment(**settings)
    return AsyncDatabase(await Database.open(path_or_url, found))
