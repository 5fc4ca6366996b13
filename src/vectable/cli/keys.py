"""`vectable keys`: create, list, revoke."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any

import click

from vectable.cli.options import db_option, json_option, open_database, open_existing, run
from vectable.cli.output import write, write_columns, write_json
from vectable.cli.report import note

if TYPE_CHECKING:
    from vectable.engine.keys import ApiKey

_SPANS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@click.group(
    "keys",
    epilog="""\b
Examples:
  vectable keys create ci --role write
  vectable keys create dashboard --table books --expires 90d
  vectable keys list --json
  vectable keys revoke ci

\b
read: look, query, search, embed. write: also rows and jobs. admin: also tables, columns, indexes, cache.
From the first key on, a server of this database asks everybody for one: Authorization: Bearer KEY.""",
)
def keys_command() -> None:
    """Make, list and revoke the API keys of a database. Every server of it knows them at once."""


@keys_command.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(["read", "write", "admin"]), default="read", show_default=True)
@click.option("--table", "tables", multiple=True, metavar="TABLE", help="Only this table. May be repeated.")
@click.option("--expires", metavar="WHEN", help="A span (30m, 12h, 90d, 4w) or a moment (2027-01-31).")
@db_option
@json_option
def create_command(
    name: str, role: Any, tables: tuple[str, ...], expires: str | None, db: str, as_json: bool
) -> None:
    """Make a key called NAME, and show it: once, since only its hash is kept."""
    moment = None if expires is None else parse_moment(expires, dt.datetime.now(dt.UTC))

    async def create() -> tuple[ApiKey, str]:
        async with await open_database(db) as database:
            return await database.engine.keys.create(name, role, tables, moment)

    key, token = run(create())
    if as_json:
        write_json({**key.model_dump(), "key": token})
        return
    write(token)
    note("Keep it now: it is not shown again. Send it as: Authorization: Bearer KEY")


@keys_command.command("list")
@db_option
@json_option
def list_command(db: str, as_json: bool) -> None:
    """List the keys, without what opens anything."""

    async def listed() -> list[ApiKey]:
        async with await open_existing(db) as database:
            return await database.engine.keys.list()

    keys = run(listed())
    if as_json:
        write_json({"keys": [{**key.model_dump(), "state": key.state} for key in keys]})
        return
    if not keys:
        note("There are no keys. vectable keys create NAME makes one.")
        return
    write_columns(
        {
            "id": [k.id for k in keys],
            "name": [k.name for k in keys],
            "role": [k.role for k in keys],
            "tables": [", ".join(k.tables) if k.tables else "all" for k in keys],
            "state": [k.state for k in keys],
            "created": [k.created_at for k in keys],
            "expires": [k.expires_at or "never" for k in keys],
        }
    )


@keys_command.command("revoke")
@click.argument("name")
@db_option
@json_option
def revoke_command(name: str, db: str, as_json: bool) -> None:
    """Make the key NAME (or of that id) open nothing any more, on every server at once."""

    async def revoke() -> ApiKey:
        async with await open_existing(db) as database:
            return await database.engine.keys.revoke(name)

    key = run(revoke())
    if as_json:
        write_json({**key.model_dump(), "state": key.state})
    else:
        write(f"{key.name} ({key.id}) is revoked")


def parse_moment(text: str, now: dt.datetime) -> dt.datetime:
    """A moment from a span from `now` on, or from a date or time of RFC 3339 (UTC unless it says otherwise).
    Raises click.BadParameter."""
    span = re.fullmatch(r"(\d{1,6})([mhdw])", text.strip())
    try:
        if span:
            return now + dt.timedelta(**{_SPANS[span[2]]: int(span[1])})
        moment = dt.datetime.fromisoformat(text.strip())
        return moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{text!r} is neither a span (90d) nor a moment (2027-01-31).") from None
