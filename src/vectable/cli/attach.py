"""`vectable attach` and `vectable detach`."""

from __future__ import annotations

from shlex import quote
from typing import Any

import click

from vectable.cli.options import json_option, open_database, open_existing, run, shown
from vectable.cli.output import cell_states, write, write_json
from vectable.cli.report import note


@click.command(
    "attach",
    epilog="""\b
Examples:
  vectable attach postgresql://anna@db/shop products --embed description
  vectable attach postgresql://anna@db/shop sales.products --embed description --model all-mpnet-base-v2
  vectable attach postgresql://anna@db/shop products --embed "{name}: {description}" --column meaning

\b
Nothing of the table changes: its columns, keys, constraints, triggers and queries are as they were. Vectors
lie beside, in the schema vectable, and can be joined there with plain SQL. Rows that anybody inserts, changes
or deletes are noticed within seconds, and embedded, while a process of Vectable has the database open:
vectable serve --db postgresql://anna@db/shop

\b
Run again, it adds what is missing; killed, it goes on where it was.""",
)
@click.argument("db", metavar="DB_URL")
@click.argument("table")
@click.option(
    "--embed", metavar="SOURCE", help='A column to embed, or a template over several: "{title}: {text}".'
)
@click.option("--model", metavar="MODEL", help="The model to embed it by.  [default: all-MiniLM-L6-v2]")
@click.option("--column", metavar="NAME", help="The embedding column.  [default: SOURCE_embedding]")
@click.option("--name", metavar="NAME", help="What the table is called in Vectable.  [default: the same]")
@click.option("--schema", metavar="SCHEMA", help="The schema the table is in.  [default: public]")
@click.option(
    "--metric",
    type=click.Choice(["cosine", "euclidean", "inner_product"]),
    default="cosine",
    show_default=True,
    help="How vectors are compared.",
)
@click.option("--poll", is_flag=True, help="Install no triggers: look for changes instead.")
@click.option(
    "--updated-at", metavar="COLUMN", help="Column that tells when a row changed.  [default: one called so]"
)
@json_option
def attach_command(db: str, table: str, as_json: bool, **request: Any) -> None:
    """Enrich TABLE (or SCHEMA.TABLE), which others own, in the PostgreSQL database DB_URL: its rows are
    embedded, and searched as those of any table."""
    found = run(_attach(db, table, request))
    if as_json:
        write_json(found)
        return
    theirs = found["attached"]
    write(f"Attached {theirs['schema']}.{theirs['table']} as {found['name']}: {found['rows']:,} rows.")
    for name, states in found["states"].items():
        write(f"  {name}: {cell_states(states)}; for plain SQL: {theirs['views'][name]}")
    if found["changes"] == "looked for":
        note("No triggers are installed: changes are looked for every few seconds.")
    name = next(iter(found["states"]), None)
    if name is not None:
        write(f'Search it: vectable search {quote(found["name"])} "…" --db {quote(shown(db))}')


async def _attach(db: str, name: str, request: dict[str, Any]) -> dict[str, Any]:
    async with await open_database(db) as database:
        table = await database.attach(name, **request)
        columns = [c.name for c in table.definition.vector_columns]
        described = await table.describe()
        return {
            "name": table.full_name,
            "attached": described["attached"],
            "rows": await table.count(),
            "states": {name: dict(await table.states(name)) for name in columns},
            "changes": "told" if described["attached"]["told"] else "looked for",
        }


@click.command(
    "detach",
    epilog="""\b
Examples:
  vectable detach postgresql://anna@db/shop products

\b
With the last table goes all that Vectable has in the database, as soon as no process of it has the database
open: its schema is as it was before.""",
)
@click.argument("db", metavar="DB_URL")
@click.argument("table")
@click.option("--keep-cache", is_flag=True, help="Keep the embedding cache, also when no table is left.")
@json_option
def detach_command(db: str, table: str, keep_cache: bool, as_json: bool) -> None:
    """Let go of TABLE, as it is called in Vectable: our vectors, views and triggers are removed. The table of
    others is as if it had never been attached."""
    run(_detach(db, table, keep_cache))
    if as_json:
        write_json({"detached": table})
    else:
        write(f"Detached {table}.")


async def _detach(db: str, name: str, keep_cache: bool) -> None:
    async with await open_existing(db) as database:
        await database.detach(name, keep_cache=keep_cache)
