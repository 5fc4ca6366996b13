"""`vectable status`."""

from __future__ import annotations

from typing import Any

import click

from vectable.cli.options import db_option, json_option, open_existing, run
from vectable.cli.output import cell_states, heading, size, write, write_columns, write_json


@click.command(
    "status",
    epilog="""\b
Examples:
  vectable status
  vectable status --db ./vectable-demo --json""",
)
@db_option
@json_option
def status_command(db: str, as_json: bool) -> None:
    """Show what a database holds: tables and rows, how far embedding is, size on disk, cached vectors,
    running jobs, what remote models have cost today."""
    found = run(_status(db))
    if as_json:
        write_json(found)
        return
    heading(f"{found['url']} ({found['backend']})")
    cached = found["cache"]["persistent"]
    write(
        f"{size(found['bytes_on_disk'])} on disk, {cached['size']:,} cached vectors ({size(cached['bytes'])})"
    )
    if "pool" in found:
        write(_pool_line(found["pool"]))
    for account in found.get("remote", {}).get("spend", ()):
        write(_spend_line(account))
    for table in found["tables"]:
        write(f"\n{table['name']}: {table['rows']:,} rows")
        for name, states in table["embedding_columns"].items():
            write(f"  {name}: {cell_states(states)}")
    if not found["tables"]:
        write("No tables yet. Make one: vectable import TABLE FILE")
    if found["jobs"]:
        write()
        jobs = found["jobs"]
        names = ("kind", "table", "status", "done", "total", "rate", "eta_s")
        write_columns({n: [j[n] for j in jobs] for n in names})


def _pool_line(pool: dict[str, int]) -> str:
    longest = pool["statement_timeout_ms"]
    bound = f"statements at most {longest / 1000:g} s" if longest else "statements of any length"
    return (
        f"{pool['open']} connections ({pool['least']} to {pool['most']}):"
        f" {pool['busy']} in use, {pool['idle']} idle;"
        f" {pool['waiting']} calls waiting (at most {pool['wait_ms'] / 1000:g} s); {bound}"
    )


def _spend_line(account: dict[str, Any]) -> str:
    cap = f" of {account['cap']}" if account["cap"] else ""
    return (
        f"{account['model']} has cost {account['spent']}{cap} today (UTC),"
        f" for {account['tokens']:,} tokens; {account['reserved']} is set aside"
    )


async def _status(db: str) -> dict[str, Any]:
    async with await open_existing(db) as database:
        return await database.status()
