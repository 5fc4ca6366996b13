"""Options that commands share, and opening the database they name."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from vectable.handles import AsyncDatabase

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_DATABASE = "./vectable-data"


def _named_before(ctx: click.Context, _: click.Parameter, value: str | None) -> str:
    """`vectable --db X tables` means the same as `vectable tables --db X`."""
    before = (ctx.find_root().obj or {}).get("db")
    return value or before or os.environ.get("VECTABLE_DB") or DEFAULT_DATABASE


def db_option(function: F) -> F:
    """`--db URL`, as the argument `db`."""
    return click.option(
        "--db",
        metavar="URL",
        callback=_named_before,
        help=f"A directory, or sqlite:///DIRECTORY.  [default: $VECTABLE_DB, else {DEFAULT_DATABASE}]",
    )(function)


def json_option(function: F) -> F:
    """`--json`, as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")(function)


async def open_existing(db: str, **settings: Any) -> AsyncDatabase:
    """Opens a database that is there. Raises NotFound otherwise: looking creates nothing."""
    require_database(db)
    return await open_database(db, **settings)


async def open_database(db: str, **settings: Any) -> AsyncDatabase:
    """Opens a database, created when missing. Raises BackendError's kinds, InvalidInput."""
    from vectable.handles import connect_async

    return await connect_async(db, **settings)


def require_database(db: str) -> None:
    """Raises NotFound when `db` names a directory without a database, Unsupported for one in memory."""
    from vectable.errors import NotFound, Unsupported
    from vectable.storage import database_directory

    directory = database_directory(db)
    if directory is None:
        raise Unsupported("a database in memory is empty in every process", hint="name a directory with --db")
    if not is_there(db):
        raise NotFound(
            f"there is no database in {directory}",
            hint="name another with --db, or make one: vectable demo, or vectable import TABLE FILE",
        )


def is_there(db: str) -> bool:
    """Whether `db` names a directory with a database in it."""
    from vectable.storage import database_directory

    directory = database_directory(db)
    return directory is not None and (directory / "vectable.db").exists()


def run(work: Coroutine[Any, Any, T]) -> T:
    """The outcome of `work`; Ctrl-C cancels it and lets it close what it opened."""
    import asyncio

    return asyncio.run(work)
