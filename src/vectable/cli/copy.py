"""`vectable copy`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vectable.cli.options import json_option, run
from vectable.cli.output import write, write_json
from vectable.cli.report import note

if TYPE_CHECKING:
    from vectable.engine.copy import Copied


@click.command(
    "copy",
    epilog="""\b
Examples:
  vectable copy ./vectable-data /mnt/big/vectable      every table, and every cached vector
  vectable copy ./vectable-data postgresql://anna@db/books
  vectable copy ./vectable-data ./for-anna books       one table
  vectable copy ./vectable-data ./for-anna books --json

\b
Interrupted or killed, it has published nothing half-done: the same command goes on from there. Later the
same command checks what is there, and brings over what the source has changed since. A table that the
destination has changed, or another one of that name, is left as it is: the command says so and fails.""",
)
@click.argument("source", metavar="SRC_URL")
@click.argument("destination", metavar="DST_URL")
@click.argument("tables", metavar="[TABLE]...", nargs=-1)
@json_option
def copy_command(source: str, destination: str, tables: tuple[str, ...], as_json: bool) -> None:
    """Copy tables (all of them, unless named) from the database SRC_URL to the database DST_URL: rows,
    definitions, vectors, indexes, cached vectors. Nothing is embedded again.

    Both are URLs as --db takes them; a directory DST_URL is made when missing. The source may be used
    meanwhile. Each table is checked before it appears: rows counted, a checksum of every column, the hits of
    sampled searches."""
    try:
        copied = run(_copy(source, destination, tables))
    except KeyboardInterrupt:
        if not as_json:
            note("What was copied is kept: the same command goes on from there.")
        raise
    if as_json:
        write_json(copied.as_dict())
        return
    write(repr(copied))
    for table in copied.tables:
        for remark in table.notes:
            note(f"{table.name}: {remark}")


async def _copy(source: str, destination: str, tables: tuple[str, ...]) -> Copied:
    from vectable.handles.copying import copy_async

    return await copy_async(source, destination, list(tables) or None)
