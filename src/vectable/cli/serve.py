"""`vectable serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vectable.cli.flags import settings_options
from vectable.cli.options import db_option, json_option, shown
from vectable.cli.output import write, write_json
from vectable.cli.postgres import database_of, with_postgres_option
from vectable.cli.report import note


@click.command(
    "serve",
    epilog="""\b
Examples:
  vectable serve
  vectable serve --db ./vectable-demo --port 8080
  vectable serve --with-postgres ./vectable-postgres
  curl http://127.0.0.1:3000/api/v1/tables
  curl http://127.0.0.1:3000/api/v1/tables/code_layouts/search/similarity \\
      -H 'content-type: application/json' \\
      -d '{"query": "parse dates", "column": "teaches_embedding", "limit": 3}'

\b
Every setting can be given as VECTABLE_NAME in the environment, too (VECTABLE_PORT=8080), and in
a file .env here. vectable config shows what is in force, and from where.""",
)
@settings_options
@with_postgres_option
@db_option
@json_option
def serve_command(db: str, as_json: bool, with_postgres: Path | None, **given: Any) -> None:
    """Serve a database over HTTP until interrupted. Only this machine can reach it, unless told otherwise.

    With --json, one document says where it listens. Ctrl-C and SIGTERM are how it ends: exit code 0."""
    import signal

    from vectable.config import Settings
    from vectable.server.logs import log_to_standard_error
    from vectable.server.run import serve

    where = shown(db) if with_postgres is None else f"PostgreSQL in {with_postgres}"

    told = not as_json

    def tell(text: str) -> None:
        if told:
            note(text)

    def ready(url: str) -> None:
        if as_json:
            write_json({"url": url, "db": where, "docs": f"{url}/docs"})
        else:
            write(f"Vectable serves {where} at {url}")
            write(f"  tables   {url}/api/v1/tables\n  docs     {url}/docs\n  health   {url}/health")
            tell("Ctrl-C stops it.")

    # SIGTERM is obeyed as Ctrl-C is: the database is closed before the process ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with database_of(db, with_postgres) as address:
            settings = Settings.from_environment(db=address, **given)
            log_to_standard_error(settings)
            told = told and settings.log_format == "text"  # who reads objects reads nothing else
            serve(settings, ready=ready)
    except KeyboardInterrupt:
        pass  # how a server is stopped
    tell("Stopped.")
