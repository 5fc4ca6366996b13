"""Copying tables from one database to another, with progress for whoever watches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vectable.errors import InvalidInput, NotFound, Unsupported
from vectable.handles.database import connect_async
from vectable.handles.progress import Update, progress

if TYPE_CHECKING:
    from vectable.engine.copy import Copied, Report

_UNITS = {"cache": "vectors"}
_LABELS = {"copy": "copy {}", "check": "check {}", "index": "index {}", "cache": "copy cached vectors"}


async def copy_async(
    source: str | Path, destination: str | Path, tables: Sequence[str] | None = None, **settings: Any
) -> Copied:
    """Copies tables (None: all of them, and every cached vector) from one database to another, whatever their
    backends: rows, definitions, versions, vectors with the state of each, named indexes, and the cached
    vectors they came from. Nothing is embedded again. A table appears in the destination, made when missing,
    once it is complete and checked there: rows counted, every column's checksum, hits of sampled searches.

    The source may be written to meanwhile: the copy is what it was at one moment near the end. Call again
    after an interruption, and it goes on where it was; call again later, and what the source has changed
    since is brought over. What the destination has changed by itself is never overwritten. `settings` are the
    fields of `vectable.config.Settings`, for both databases.

    Raises NotFound without a database at `source`, InvalidInput when both are the same, TableNotFound,
    AlreadyExists for another or changed table of that name in the destination, Conflict while another process
    copies the table, Unsupported for what the destination cannot hold, BackendError when the check fails."""
    if isinstance(tables, str):
        tables = [tables]
    for url in (source, destination):
        _require_lasting(url)
    await _require_database(source)
    from vectable.engine.copy import copy_tables

    async with await connect_async(source, **settings) as ours:
        for name in tables or ():
            await ours.table(name)  # before a destination is made for nothing
        if _same_directory(source, destination):
            raise InvalidInput(
                "the source and the destination are the same database", hint="name another destination"
            )
        async with await connect_async(destination, **settings) as theirs:
            with _stages() as report:
                return await copy_tables(ours.engine, theirs.engine, tables, report)


def _require_lasting(url: str | Path) -> None:
    from vectable.storage import database_directory, in_server

    if not in_server(url) and database_directory(url) is None:
        raise Unsupported(
            "a database in memory is empty in every process, and gone with it",
            hint="name two databases that last: directories, or servers",
        )


async def _require_database(url: str | Path) -> None:
    from vectable.storage import exists, shown

    if not await exists(url):
        raise NotFound(
            f"there is no database of Vectable's in {shown(str(url))}", hint="name the one to copy from first"
        )


def _same_directory(one: str | Path, other: str | Path) -> bool:
    from vectable.storage import database_directory, in_server

    if in_server(one) or in_server(other):
        return False  # there it shows once both are open
    ours, theirs = database_directory(one), database_directory(other)
    return ours is not None and theirs is not None and ours.resolve() == theirs.resolve()


@contextmanager
def _stages() -> Iterator[Report]:
    """A display for each stage of each table, one after the other. What calls begin with is no progress."""
    with ExitStack() as shown:
        current: tuple[str, str] | None = None
        update: Update = _nobody

        def report(stage: str, name: str, done: int, total: int) -> None:
            nonlocal current, update
            if current != (stage, name):
                shown.close()
                current = (stage, name)
                label = _LABELS.get(stage, stage + " {}").format(name)
                update = shown.enter_context(progress(label, _UNITS.get(stage, "rows"), begun=done))
            update(done, total or None)

        yield report


def _nobody(done: int, total: int | None) -> None:
    """Before the first stage."""
