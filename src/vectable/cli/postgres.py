"""`--with-postgres DIRECTORY`: a PostgreSQL server for a first try, which lives as long as the command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from vectable.cli.options import db_was_named

F = TypeVar("F", bound=Callable[..., Any])


def with_postgres_option(function: F) -> F:
    """`--with-postgres DIRECTORY`, as the argument `with_postgres`."""
    return click.option(
        "--with-postgres",
        metavar="DIRECTORY",
        type=click.Path(file_okay=False, path_type=Path),
        help="In place of --db: start a PostgreSQL of its own, with its data in DIRECTORY.",
    )(function)


@contextmanager
def database_of(db: str, with_postgres: Path | None) -> Iterator[str]:
    """The address of the database the options name, with its server started where that was asked for, and
    stopped afterwards. Raises Unsupported where no server is installed, InvalidInput, BackendError."""
    if with_postgres is None:
        yield db
        return
    if db_was_named():
        raise click.UsageError("--with-postgres is given in place of --db, not beside it.")
    from vectable.drivers.postgres.server import PostgresServer

    server = PostgresServer(with_postgres)
    try:
        server.start()
        yield server.url()
    finally:
        server.stop()
