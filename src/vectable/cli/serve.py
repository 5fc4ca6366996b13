"""`vectable serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

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
Every setting can be given as VECTABLE_NAME in the environment, too: VECTABLE_PORT=8080.""",
)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port; 0 takes a free one.  [default: 3000]")
@click.option(
    "--insecure",
    is_flag=True,
    default=None,
    help="Listen on addresses other machines can reach, though nobody is asked for a key.",
)
@click.option(
    "--text-model", metavar="MODEL", help="The model where none is named.  [default: all-MiniLM-L6-v2]"
)
@click.option(
    "--preload/--no-preload",
    default=None,
    help="Load that model at the start, in the background, where it is on this machine.  [default: preload]",
)
@click.option("--cache-max-size", type=click.IntRange(0), help="Vectors cached in memory.  [default: 10000]")
@click.option("--cache-ttl-ms", type=click.IntRange(0), help="How long they stay.  [default: one hour]")
@click.option(
    "--persistent-cache-bytes", type=click.IntRange(0), help="Cached vectors on disk.  [default: 4 GiB]"
)
@click.option("--inline-cells", type=click.IntRange(0), help="Cells embedded within a write.  [default: 100]")
@click.option("--embed-batch-tokens", type=click.IntRange(1), help="Tokens in one batch.  [default: 1024]")
@click.option(
    "--resident-bytes", type=click.IntRange(0), help="Memory for resident indexes.  [default: 1 GiB]"
)
@click.option("--search-threads", type=click.IntRange(1), help="Searches at once.  [default: 2]")
@click.option(
    "--synchronous",
    type=click.Choice(["full", "normal"]),
    help="full: no power cut loses an acknowledged write; normal is faster.  [default: full]",
)
@click.option("--busy-timeout-ms", type=click.IntRange(0), help="Wait for another writer.  [default: 30000]")
@click.option(
    "--postgres-pool-min", type=click.IntRange(0), help="Connections to PostgreSQL kept open.  [default: 5]"
)
@click.option("--postgres-pool-max", type=click.IntRange(1), help="… and at most.  [default: 20]")
@click.option(
    "--postgres-pool-wait-ms",
    type=click.IntRange(1),
    help="Wait for one of them; then 503.  [default: 10000]",
)
@click.option(
    "--postgres-statement-timeout-ms",
    type=click.IntRange(0),
    help="Longest statement there; 0: any.  [default: 60000]",
)
@click.option(
    "--postgres-rows-schema", metavar="SCHEMA", help="Where rows of tables are put there.  [default: public]"
)
@click.option("--request-timeout-ms", type=click.IntRange(1), help="Longest request.  [default: 30000]")
@click.option(
    "--cache-dir", metavar="DIRECTORY", help="Where derived model files go.  [default: ~/.cache/vectable]"
)
@click.option(
    "--fake-embeddings",
    is_flag=True,
    default=None,
    help="Hashes in place of every model: for tests, no meaning.",
)
@with_postgres_option
@db_option
@json_option
def serve_command(db: str, as_json: bool, with_postgres: Path | None, **given: Any) -> None:
    """Serve a database over HTTP until interrupted. Only this machine can reach it, unless told otherwise.

    With --json, one document says where it listens. Ctrl-C and SIGTERM are how it ends: exit code 0."""
    import logging
    import signal

    from vectable.config import Settings
    from vectable.server.run import serve

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    where = shown(db) if with_postgres is None else f"PostgreSQL in {with_postgres}"

    def ready(url: str) -> None:
        if as_json:
            write_json({"url": url, "db": where, "docs": f"{url}/docs"})
        else:
            write(f"Vectable serves {where} at {url}")
            write(f"  tables   {url}/api/v1/tables\n  docs     {url}/docs\n  health   {url}/health")
            note("Ctrl-C stops it.")

    # SIGTERM is obeyed as Ctrl-C is: the database is closed before the process ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with database_of(db, with_postgres) as address:
            serve(Settings.from_environment(db=address, **given), ready=ready)
    except KeyboardInterrupt:
        pass  # how a server is stopped
    if not as_json:
        note("Stopped.")
