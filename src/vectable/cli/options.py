"""Options that commands share, and opening the database they name."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from vectable.handles import AsyncDatabase

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def _named_before(ctx: click.Context, _: click.Parameter, value: str | None) -> str:
    """`vectable --db X tables` means the same as `vectable tables --db X`."""
    from vectable.config import force

    return str(next(each.value for each in force(db=value or _before(ctx)) if each.name == "db"))


def _before(ctx: click.Context) -> str | None:
    found: str | None = (ctx.find_root().obj or {}).get("db")
    return found


def db_was_named() -> bool:
    """Whether the running command was given `--db`, by itself or before its name."""
    ctx = click.get_current_context()
    return ctx.get_parameter_source("db") is click.core.ParameterSource.COMMANDLINE or bool(_before(ctx))


def db_option(function: F) -> F:
    """`--db URL`, as the argument `db`."""
    return click.option(
        "--db",
        metavar="URL",
        callback=_named_before,
        help="A directory, or postgresql://USER@HOST/DATABASE.  "
        "[default: $VECTABLE_DB, else ./vectable-data]",
    )(function)


def json_option(function: F) -> F:
    """`--json`, as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")(function)


async def open_existing(db: str, **settings: Any) -> AsyncDatabase:
    """Opens a database that is there. Raises NotFound otherwise: looking creates nothing."""
    await require_database(db)
    return await open_database(db, **settings)


async def open_database(db: str, **settings: Any) -> AsyncDatabase:
    """Opens a database, created when missing. Raises BackendError's kinds, InvalidInput."""
    from vectable.handles import connect_async

    return await connect_async(db, **settings)


async def require_database(db: str) -> None:
    """Raises NotFound when there is no database of ours at `db`, Unsupported for one in memory, and what
    connecting to a server raises."""
    from vectable.errors import NotFound, Unsupported
    from vectable.storage import database_directory, exists, in_server, shown

    server = in_server(db)
    directory = None if server else database_directory(db)
    if not server and directory is None:
        raise Unsupported("a database in memory is empty in every process", hint="name a directory with --db")
    if not await exists(db):
        where = f"no database of Vectable's in {shown(db)}" if server else f"no database in {directory}"
        raise NotFound(
            f"there is {where}",
            hint="name another with --db, or make one: vectable demo, or vectable import TABLE FILE",
        )


def shown(db: str) -> str:
    """`db` for people: without a password."""
    from vectable.storage import shown

    return shown(db)


def run(work: Coroutine[Any, Any, T]) -> T:
    """The outcome of `work`; Ctrl-C cancels it and lets it close what it opened."""
    import asyncio

    return asyncio.run(work)
