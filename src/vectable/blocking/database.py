"""A database, synchronous: the same methods, which wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vectable.blocking.loop import Loop, current_loop
from vectable.blocking.mirror import mirrors
from vectable.blocking.owner import Owner
from vectable.blocking.table import Table
from vectable.core.vectors import Matrix
from vectable.handles.database import AsyncDatabase, connect_async

if TYPE_CHECKING:
    from vectable.engine.jobs import Job
    from vectable.interfaces import ModelCard, Purpose


@mirrors(AsyncDatabase)
class Database(Owner):
    """An open database, usable from any thread of the process that opened it, as `with connect(…) as db`.
    Left open, it is closed when nothing refers to it any more, or when the interpreter ends."""

    def __init__(self, loop: Loop, database: AsyncDatabase) -> None:
        super().__init__(loop, database)
        self._database = database

    @property
    def url(self) -> str:
        return self._database.url

    @property
    def closed(self) -> bool:
        return self._database.closed

    def create_table(
        self,
        name: str,
        columns: Mapping[str, str | Mapping[str, Any]],
        *,
        key: str | Sequence[str] | None = None,
        if_exists: Literal["error", "ok"] = "error",
    ) -> Table:
        return Table(
            self, self._run(self._database.create_table(name, columns, key=key, if_exists=if_exists))
        )

    def table(self, name: str) -> Table:
        return Table(self, self._run(self._database.table(name)))

    def tables(self, namespace: str | None = None) -> list[Table]:
        return [Table(self, table) for table in self._run(self._database.tables(namespace))]

    def rename_table(self, old: str, new: str) -> Table:
        return Table(self, self._run(self._database.rename_table(old, new)))

    def drop_table(self, name: str, *, missing_ok: bool = False) -> None:
        return self._run(self._database.drop_table(name, missing_ok=missing_ok))

    def attach(
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
    ) -> Table:
        return Table(
            self,
            self._run(
                self._database.attach(
                    table,
                    embed=embed,
                    model=model,
                    name=name,
                    column=column,
                    metric=metric,
                    schema=schema,
                    poll=poll,
                    updated_at=updated_at,
                    wait=wait,
                )
            ),
        )

    def detach(self, name: str, *, keep_cache: bool = False) -> None:
        return self._run(self._database.detach(name, keep_cache=keep_cache))

    def embed(
        self,
        items: Any,
        *,
        model: str | None = None,
        purpose: Purpose = "document",
        cache: bool = True,
        normalize: bool = True,
    ) -> Matrix:
        return self._run(
            self._database.embed(items, model=model, purpose=purpose, cache=cache, normalize=normalize)
        )

    def models(self) -> list[ModelCard]:
        return self._run(self._database.models())

    def jobs(self) -> list[Job]:
        return self._run(self._database.jobs())

    def job(self, job_id: str) -> Job:
        return self._run(self._database.job(job_id))

    def cancel_job(self, job_id: str) -> Job:
        return self._run(self._database.cancel_job(job_id))

    def wait(self, job_id: str, label: str | None = None) -> Job:
        return self._run(self._database.wait(job_id, label))

    def status(self) -> dict[str, Any]:
        return self._run(self._database.status())

    def backup(self, file: str | Path, *, overwrite: bool = False) -> None:
        return self._run(self._database.backup(file, overwrite=overwrite))

    def close(self) -> None:
        self._close()


def connect(path_or_url: str | Path | None = None, **settings: Any) -> Database:
    """Opens a database: a directory, "sqlite:///directory" or "memory:"; by default VECTABLE_DB, else
    ./vectable-data. `settings` are the fields of `vectable.config.Settings`; what is not given comes from
    VECTABLE_* variables. Raises InvalidInput, DatabaseNewer, DatabaseDamaged, ReadOnlyDatabase."""
    loop = current_loop()
    return Database(loop, loop.run(connect_async(path_or_url, **settings)))
