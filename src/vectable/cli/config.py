"""`vectable config`."""

from __future__ import annotations

from typing import Any

import click

from vectable.cli.flags import flag_of, settings_options
from vectable.cli.options import db_option, db_was_named, json_option, shown
from vectable.cli.output import write, write_json
from vectable.cli.report import note

_WIDE = 40


@click.command(
    "config",
    epilog="""\b
Examples:
  vectable config                    what `vectable serve` would take here, and from where
  vectable config --port 8080        the same with flags
  vectable config --json

\b
Taken is, in this order: a flag, VECTABLE_NAME, the plain name (PORT), the file .env, the default.
VECTABLE_ENV_FILE names another file than .env; empty, none is read.""",
)
@settings_options
@db_option
@json_option
def config_command(db: str, as_json: bool, **given: Any) -> None:
    """Show every setting as it is in force here, and where it comes from. Passwords are not shown."""
    from vectable.config import Settings, force
    from vectable.config.sources import unknown_variables

    found = force(db=db if db_was_named() else None, **given)
    Settings(**{each.name: each.value for each in found})  # refuses what a server would refuse
    rows = []
    for each in found:
        value = shown(each.value) if each.name == "db" else each.value
        source = flag_of(each.name) if each.source == "argument" else each.source
        rows.append((each.name, value, source))
    unknown = dict(unknown_variables())
    if as_json:
        settings = {name: {"value": value, "from": source} for name, value, source in rows}
        write_json({"settings": settings, "unknown": unknown})
        return
    _write_rows([("setting", "value", "from"), *((name, _plain(v), source) for name, v, source in rows)])
    for variable, hint in unknown.items():
        note(f"{variable} sets nothing: {hint}")


def _write_rows(rows: list[tuple[str, str, str]]) -> None:
    """Aligned, and nothing cut short: a value that cannot be read whole is no answer."""
    name = max(len(row[0]) for row in rows)
    value = min(max(len(row[1]) for row in rows), _WIDE)
    for row in rows:
        write(f"{row[0]:<{name}}  {row[1]:<{value}}  {row[2]}")


def _plain(value: Any) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
