"""Wiring: from a URL and settings to a database whose parts know each other."""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from vectable.config import Settings
from vectable.core.context import LOCAL
from vectable.core.meter import UNMETERED, Meter
from vectable.core.predicate import TRUE
from vectable.engine.attach import Attacher
from vectable.engine.catalog import Catalog
from vectable.engine.columns import EmbeddingColumns
from vectable.engine.embed import Embedder
from vectable.engine.index import Indexer
from vectable.engine.jobs import Job, Jobs
from vectable.engine.keys import ApiKeys
from vectable.engine.leases import Leases
from vectable.engine.notice import Noticer
from vectable.engine.read import Reader
from vectable.engine.refresh import Refresher
from vectable.engine.resident import ResidentRegistry
from vectable.engine.search import Searcher
from vectable.engine.sweep import Sweeper
from vectable.engine.write import Writer
from vectable.errors import ReadOnlyDatabase, Unsupported, VectableError
from vectable.indexes.faiss import FaissLibrary
from vectable.interfaces import Progress
from vectable.providers.remote import RemoteLibrary, library_of
from vectable.storage import Storage, database_directory, in_server, open_storage, shown

log = logging.getLogger(__name__)
_HOUSEKEEPING_S = 3_600.0
_AFTER_DEFECT_S = 60.0


class Database:
    """An open database. Belongs to the event loop it was opened on; close it there."""

    def __init__(
        self, storage: Storage, settings: Settings, pool: ThreadPoolExecutor, meter: Meter = UNMETERED
    ) -> None:
        self.url = storage.url
        self.settings = settings
        self.identity = storage.identity
        self.backend = storage.backend
        self.state = storage.state
        self.cache = storage.cache
        self._storage = storage
        self._pool = pool
        self.leases = Leases(self.state)
        self.jobs = Jobs(self.state, self.leases)
        self.keys = ApiKeys(self.state)
        self.catalog = Catalog(self.state, self.backend)
        self.library = library_of(settings, self.state)
        self.embedder = Embedder(
            self.library, settings, self.cache, state=self.state, crowded=storage.crowded, meter=meter
        )
        self.refresher = Refresher(
            self.backend, self.catalog, self.embedder, self.jobs, self.leases, settings.inline_cells
        )
        self.sweeper = Sweeper(self.catalog, self.jobs, self.leases, self.refresher, settings.inline_cells)
        self.writer = Writer(self.backend, self.catalog, self.embedder, self.refresher, self.sweeper)
        self.columns = EmbeddingColumns(
            self.backend, self.catalog, self.embedder, self.refresher, self.leases
        )
        self.attacher = Attacher(storage.foreign, self.catalog, self.columns, self.refresher, self.jobs)
        self.noticer = (
            None
            if storage.foreign is None
            else Noticer(storage.foreign, self.catalog, self.refresher, self.sweeper)
        )
        self.registry = _registry(settings.resident_bytes)
        self.searcher = Searcher(
            self.identity,
            self.backend,
            self.registry,
            directory=storage.index_directory,
            pool=pool,
        )
        self.reader = Reader(
            self.backend,
            self.catalog,
            self.embedder,
            self.searcher,
            self.catalog.marks,
            beside=storage.beside,
            meter=meter,
        )
        self.indexer = Indexer(
            self.backend, self.state, self.catalog, self.searcher, self.registry.library, self.jobs
        )

    @classmethod
    async def open(
        cls,
        url: str | os.PathLike[str] | None = None,
        settings: Settings | None = None,
        *,
        meter: Meter = UNMETERED,
    ) -> Self:
        """Opens the database at `url` (a directory, sqlite:///DIRECTORY, postgresql://…, memory:; None: the
        setting `db`), creating it when missing; `meter` is told what it does. Raises InvalidInput,
        DatabaseDamaged, DatabaseNewer, ReadOnlyDatabase, BackendUnavailable, …"""
        settings = settings or Settings.from_environment()
        storage = await open_storage(settings.db if url is None else url, settings)
        pool = ThreadPoolExecutor(max_workers=settings.search_threads, thread_name_prefix="search")
        try:
            opened = cls(storage, settings, pool, meter)
        except BaseException:
            pool.shutdown(wait=False)
            await storage.close()
            raise
        if opened.noticer is not None:
            opened.noticer.start()
        return opened

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stops this process's jobs (they are taken up again by the next one) and closes every file."""
        if self.noticer is not None:
            await self.noticer.close()
        await self.sweeper.close()
        await self.refresher.close()
        await self.jobs.close()
        await self.searcher.close()
        await self.embedder.close()
        self._pool.shutdown(wait=True)
        if self.catalog.leaving and self._storage.leave is not None:
            try:
                await self._storage.leave()
            except VectableError as error:
                log.warning("what is left of ours stays in the database: %s", error)
        await self._storage.close()

    async def backup(
        self, file: str | os.PathLike[str], *, overwrite: bool = False, progress: Progress | None = None
    ) -> None:
        """Copies the database as of now into one file, while others read and write. Raises Unsupported for
        storage without files, AlreadyExists, DiskFull."""
        if self._storage.backup is None:
            raise Unsupported("a database in memory cannot be backed up", hint="open a directory instead")
        await self._storage.backup(file, overwrite=overwrite, progress=progress)

    async def tend(self) -> None:
        """For a process that stays: takes up what others left when they died, and keeps house. Until
        cancelled; never fails."""
        while True:
            try:
                await self.maintain()
            except ReadOnlyDatabase:
                pass  # whoever may write will do it
            except VectableError as error:
                log.warning("housekeeping waits for another time: %s", error)
            try:
                async with asyncio.timeout(_HOUSEKEEPING_S):
                    await self.sweeper.tend()
            except TimeoutError:
                pass
            except Exception:
                log.exception("looking after what others left has failed")
                await asyncio.sleep(_AFTER_DEFECT_S)

    async def maintain(self) -> None:
        """Housekeeping: prunes what is no longer needed. Safe at any time."""
        await self.backend.maintain()
        await self.jobs.prune()
        await self.embedder.maintain()
        live = {v.id for t in await self.catalog.list(LOCAL) for _, v in t.versions}
        await asyncio.to_thread(self.searcher.sweep, live)

    def pool_status(self) -> dict[str, int] | None:
        """How busy the connections to a server are; None where there is no server."""
        return self._storage.pool() if self._storage.pool else None

    async def remote_status(self) -> dict[str, list[dict[str, Any]]] | None:
        """The `endpoints` of models served elsewhere, as this process knows them, and the day's `spend` of
        all processes; None where no such models are declared."""
        if not isinstance(self.library, RemoteLibrary):
            return None
        return {"endpoints": self.library.endpoints(), "spend": await self.library.spend()}

    async def status(self) -> dict[str, Any]:
        """What there is and what is going on, JSON-ready."""
        tables = []
        for table in await self.catalog.list(LOCAL):
            async with self.backend.view(table) as view:
                rows = await view.count(self.backend.push(table, TRUE))
            columns = {c.name: dict(s) for c, s in await self.columns.list(LOCAL, table.full_name)}
            tables.append({"name": table.full_name, "rows": rows, "embedding_columns": columns})
        entries, size = await self.cache.size()
        remote = await self.remote_status()
        stored, pool = self._storage.stored_bytes, self.pool_status()
        return {
            "url": self.url,
            "backend": type(self.backend).__name__.removesuffix("Backend").lower(),
            "tables": tables,
            "bytes_on_disk": await stored() if stored else _bytes_below(self._storage.directory),
            "resident_bytes": self.registry.held(),
            "resident_limit": self.settings.resident_bytes,
            "cache": {"memory": self.embedder.cache_stats(), "persistent": {"size": entries, "bytes": size}},
            "models_loaded": self.embedder.models.loaded_ids(),
            "jobs": [j.model_dump() for j in await self._unfinished_jobs()],
            **({"remote": remote} if remote else {}),
            **({"pool": pool} if pool else {}),
        }

    async def _unfinished_jobs(self) -> list[Job]:
        """The newest first. Those whose process is gone wait for another to take them up: they are queued."""
        jobs = [record.job for record in await self.jobs.unfinished()]
        for job in jobs:
            if not await self.leases.held(f"job/{job.id}"):
                job.status, job.rate, job.eta_s = "queued", None, None
        return sorted(jobs, key=lambda job: (job.created_at, job.id), reverse=True)


@lru_cache
def _registry(budget: int) -> ResidentRegistry:
    """One per process and budget, shared by every database opened with it."""
    return ResidentRegistry(FaissLibrary(), budget)


def restore(
    file: str | os.PathLike[str],
    url: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Makes the backup `file` the database at `url`; `progress` hears of the pages copied. Raises
    InvalidInput, AlreadyExists (unless `overwrite`), DatabaseDamaged, DatabaseNewer."""
    if in_server(url):
        raise Unsupported(
            f"{shown(str(url))} is restored as other databases of its server are",
            hint="pg_restore brings back what pg_dump wrote; vectable copy moves tables between databases",
        )
    directory = database_directory(url)
    if directory is None:
        raise Unsupported("a database in memory cannot be restored", hint="name a directory")
    from vectable.drivers.sqlite.backup import restore as restore_directory

    restore_directory(file, directory, overwrite=overwrite, progress=progress)


def _bytes_below(directory: Path | None) -> int:
    if directory is None:
        return 0
    total = 0
    for root, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
    return total
