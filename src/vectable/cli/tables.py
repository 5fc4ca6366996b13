"""`vectable tables` and `vectable describe`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vectable.cli.options import db_option, json_option, open_existing, run
from vectable.cli.output import cell_states, heading, write, write_columns, write_json

if TYPE_CHECKING:
    from vectable.handles import AsyncTable


@click.command(
    "tables",
    epilog="""\b
Examples:
  vectable tables
  vectable tables --db ./vectable-demo --json""",
)
@db_option
@json_option
def tables_command(db: str, as_json: bool) -> None:
    """List the tables: their rows, columns and embedding columns."""
    found = run(_tables(db))
    if as_json:
        write_json({"tables": found})
    elif not found:
        write("No tables yet. Make one: vectable import TABLE FILE")
    else:
        write_columns(
            {
                "table": [t["name"] for t in found],
                "rows": [t["rows"] for t in found],
                "columns": [", ".join(t["columns"]) for t in found],
                "embedding columns": [
                    "; ".join(f"{n}: {cell_states(s)}" for n, s in t["embedding_columns"].items())
                    for t in found
                ],
            }
        )


async def _tables(db: str) -> list[dict[str, Any]]:
    async with await open_existing(db) as database:
        return [
            {
                "name": table.full_name,
                "rows": await table.count(),
                "columns": [c.name for c in table.definition.columns],
                "embedding_columns": await _states(table),
            }
            for table in await database.tables()
        ]


async def _states(table: AsyncTable) -> dict[str, dict[str, int]]:
    computed = [c.name for c in table.definition.vector_columns if c.embedding is not None]
    return {name: dict(await table.states(name)) for name in computed}


@click.command(
    "describe",
    epilog="""\b
Examples:
  vectable describe code_layouts
  vectable describe books --json""",
)
@click.argument("table")
@db_option
@json_option
def describe_command(table: str, db: str, as_json: bool) -> None:
    """Show TABLE: its columns and their types, how embedding columns are filled and how far they are,
    its indexes. TABLE may be NAMESPACE.TABLE."""
    found = run(_describe(db, table))
    if as_json:
        write_json(found)
        return
    heading(f"{found['name']}: {found['rows']:,} rows, key ({', '.join(found['key'])})")
    columns = found["columns"]
    write_columns(
        {
            "column": list(columns),
            "type": [_type(c) for c in columns.values()],
            "null": ["yes" if c.get("nullable", True) else "no" for c in columns.values()],
            "filled": [_filled(c) for c in columns.values()],
        }
    )
    for name, states in found["states"].items():
        write(f"\n{name}: {cell_states(states)}")
    indexes = found["indexes"]
    if indexes:
        write()
        names = ("name", "type", "method", "column", "status", "recall")
        write_columns({n: [i.get(n) for i in indexes] for n in names if any(i.get(n) for i in indexes)})


async def _describe(db: str, name: str) -> dict[str, Any]:
    async with await open_existing(db) as database:
        table = await database.table(name)
        return {
            **await table.describe(),
            "indexes": await table.indexes(),
            "rows": await table.count(),
            "states": await _states(table),
        }


def _type(column: dict[str, Any]) -> str:
    dimensions = column.get("dimensions")
    return f"{column['type']}({dimensions}), {column.get('metric')}" if dimensions else str(column["type"])


def _filled(column: dict[str, Any]) -> str:
    embedding = column.get("embedding")
    if embedding:
        source = embedding.get("source") or repr(embedding.get("template"))
        when = "" if embedding.get("auto_update", True) else ", on refresh only"
        return f"from {source} by {embedding['model']}{when}"
    default = column.get("default")
    return "given" if default is None else f"given, else {default!r}"
