"""`vectable import`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from vectable.cli.options import db_option, json_option, open_database, run, shown
from vectable.cli.output import write, write_json
from vectable.cli.report import note

if TYPE_CHECKING:
    from vectable.handles import AsyncDatabase, AsyncTable


@click.command(
    "import",
    epilog="""\b
Examples:
  vectable import books books.csv
  vectable import books books.csv --embed blurb
  vectable import books more.jsonl --on-conflict replace
  vectable import papers papers.parquet --key doi --embed abstract=all-mpnet-base-v2
  vectable import shops shops.csv --type zip=string --type opened=timestamp

\b
A table that does not exist is made, with the types the file tells: those of its schema (Parquet,
Arrow), else those its first 10,000 rows spell. --type says otherwise. The key is --key, else a column
id, else an id is made up for every row (and importing the file again adds its rows again).""",
)
@click.argument("table")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--key", metavar="COLUMN", multiple=True, help="A new table's key; again for a key of several parts."
)
@click.option(
    "--embed",
    metavar="COLUMN[=MODEL]",
    multiple=True,
    help="Add the embedding column COLUMN_embedding, made from COLUMN by MODEL.",
)
@click.option("--type", "types", metavar="COLUMN=TYPE", multiple=True, help="A new table's column type.")
@click.option(
    "--on-conflict",
    type=click.Choice(["error", "replace", "skip"]),
    default="error",
    show_default=True,
    help="What to do with rows whose key exists.",
)
@click.option(
    "--format", "kind", type=click.Choice(["csv", "jsonl", "parquet", "arrow"]), help="[default: by ending]"
)
@db_option
@json_option
def import_command(table: str, file: Path, db: str, as_json: bool, **request: Any) -> None:
    """Load the rows of FILE (Parquet, CSV, JSONL or Arrow) into TABLE, and embed what is new.

    Rows land in batches. When a row is bad, the ones before its batch stay, and the error says which it was;
    with --on-conflict replace or skip the corrected file can be imported again."""
    from vectable.errors import InvalidInput

    if not file.is_file():
        raise InvalidInput(f"there is no file {str(file)!r}", hint="check the path")
    found = run(_import(db, table, file, request))
    if as_json:
        write_json(found)
        return
    parts = [f"{found[n]:,} {n}" for n in ("inserted", "replaced", "skipped") if found[n] or n == "inserted"]
    made = "New table" if found["created"] else "Table"
    write(f"{made} {found['table']}: {', '.join(parts)}.")
    for name, states in found["states"].items():
        write(f"  {name}: {states['ready']:,} embedded")
        if states.get("error"):
            note(f"  {states['error']:,} could not be embedded; their rows are kept")
    if found["states"]:
        write(f'Search it: vectable search {found["table"]} "…" --db {quote(shown(db))}')


async def _import(db: str, name: str, file: Path, request: dict[str, Any]) -> dict[str, Any]:
    from vectable.cli.importing.load import load
    from vectable.ingest import format_of
    from vectable.storage import exists

    named = {"jsonl": "ndjson"}.get(request["kind"], request["kind"])
    kind = named or format_of(file)
    # Of a file that cannot be one, no database is left behind.
    columns = None if await exists(db) else _columns(file, kind, request)
    async with await open_database(db) as database:
        table, created = await _table(database, name, columns, file, kind, request)
        for text in request["embed"]:
            column, _, model = text.partition("=")
            await table.add_embedding_column(
                f"{column}_embedding", source=column, model=model or None, if_exists="ok"
            )
        result = await load(database, table, file, kind, request["on_conflict"])
        await finish(database, table.full_name, result.job)
        computed = [c.name for c in table.definition.vector_columns if c.embedding is not None]
        return {
            "table": table.full_name,
            "created": created,
            "inserted": result.inserted,
            "replaced": result.replaced,
            "skipped": result.skipped,
            "states": {name: dict(await table.states(name)) for name in computed},
        }


async def _table(
    database: AsyncDatabase,
    name: str,
    columns: dict[str, Any] | None,
    file: Path,
    kind: Any,
    request: dict[str, Any],
) -> tuple[AsyncTable, bool]:
    """The table, made from what the file tells when there is none; whether it was made."""
    from vectable.errors import InvalidInput, TableNotFound

    try:
        table = await database.table(name)
    except TableNotFound:
        columns = columns or _columns(file, kind, request)
        return await database.create_table(name, columns, key=list(request["key"]) or None), True
    if request["key"] or request["types"]:
        raise InvalidInput(
            f"table {name!r} exists: its key and types are what they are",
            hint=f"see vectable describe {name}, or choose another table name",
        )
    return table, False


def _columns(file: Path, kind: Any, request: dict[str, Any]) -> dict[str, Any]:
    """A new table's columns. Raises InvalidInput when the file is none, or lacks a column that was named."""
    from vectable.errors import InvalidInput, did_you_mean
    from vectable.ingest.inference import columns_of

    columns = columns_of(file, kind)
    types = dict(map(_given_type, request["types"]))
    for name in (*types, *request["key"], *(text.partition("=")[0] for text in request["embed"])):
        if name not in columns:
            hint = did_you_mean(name, columns, "columns")
            raise InvalidInput(f"the file has no column {name!r}", hint=hint)
    return columns | types


def _given_type(text: str) -> tuple[str, Any]:
    column, separator, type_ = text.partition("=")
    if not separator or not column or not type_:
        raise click.UsageError(f"--type {text!r} does not read COLUMN=TYPE.")
    if type_.startswith("vector(") and type_.endswith(")") and type_[7:-1].isdigit():
        return column, {"type": "vector", "dimensions": int(type_[7:-1])}
    return column, type_


async def finish(database: AsyncDatabase, table: str, own: str | None) -> None:
    """Stays until nothing of the table is being embedded: by the job of this import, and by those an
    interrupted one left. Shows progress. Raises ProviderError when one failed."""
    from vectable.errors import ProviderError

    under_way = [j.id for j in await database.jobs() if j.table == table and j.finished_at is None]
    for job in dict.fromkeys([*([own] if own else []), *under_way]):
        found = await database.wait(job, f"embed {table}")
        if found.kind != "index" and found.status != "done":
            raise ProviderError(
                f"embedding stopped: {found.error or found.status}",
                hint="the rows are kept; the same command, or any writer of this table, goes on",
            )
