"""`vectable demo`."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from vectable.cli.options import db_option, json_option, open_database, run, shown
from vectable.cli.output import heading, times, write, write_columns, write_json
from vectable.cli.postgres import database_of, with_postgres_option
from vectable.cli.report import note

if TYPE_CHECKING:
    from vectable.cli.demo.build import Built
    from vectable.handles import AsyncDatabase, AsyncTable, Result


@click.command(
    "demo",
    epilog="""\b
Examples:
  vectable demo
  vectable demo --db ./vectable-demo
  vectable demo --with-postgres ./vectable-postgres

\b
The first run embeds about 10,000 texts: one to three minutes on two cores. It may be interrupted:
the next run goes on. Run again, it embeds nothing and takes seconds.""",
)
@click.option("--limit-rows", type=click.IntRange(1), hidden=True, help="Only so many rows, spread evenly.")
@with_postgres_option
@db_option
@json_option
def demo_command(limit_rows: int | None, with_postgres: Path | None, db: str, as_json: bool) -> None:
    """Build the table code_layouts from the documentation of this Python's standard library, embed it, and
    ask it questions. Needs no network."""
    try:
        with database_of(db, with_postgres) as address:
            run(_demo(address, limit_rows, as_json, with_postgres))
    except KeyboardInterrupt:
        if not as_json:
            note("\nWhat is embedded stays. The same command goes on where this one stopped.")
        raise


async def _demo(db: str, limit: int | None, as_json: bool, with_postgres: Path | None) -> None:
    from vectable.cli.demo.ask import QUESTIONS, ask
    from vectable.cli.demo.build import build
    from vectable.cli.demo.documentation import QUALITY_RULE

    say: Callable[[str], None] = (lambda _: None) if as_json else write
    if not as_json:
        heading(f"The documentation of Python {platform.python_version()}, searched by meaning")
    async with await open_database(db) as database:
        if database.engine.settings.fake_embeddings:
            say("VECTABLE_FAKE_EMBEDDINGS is set: hits share words, not meaning.")
        table, built = await build(database, limit, say)
        await _warm(database, table)
        say(f"\n{QUALITY_RULE}")
        asked = []
        for question in QUESTIONS:
            found = await ask(table, question)
            if not as_json:
                _show(question.text, question.where, found)
            asked.append({"question": question.text, "where": question.where, **_data(found)})
    if as_json:
        write_json(
            {**dataclasses.asdict(built), "db": shown(db), "table": "code_layouts", "questions": asked}
        )
    elif with_postgres is not None:
        _next_with_postgres(with_postgres)
    else:
        _next(db, built)


async def _warm(database: AsyncDatabase, table: AsyncTable) -> None:
    """Loads the model and the vectors, so that the times shown are those of every further question."""
    from vectable.cli.demo.ask import WARM_UP, ask

    await database.engine.embedder.preload(table.definition.vector_columns[0].embedding.model)  # type: ignore[union-attr]
    await ask(table, WARM_UP)


def _show(text: str, where: str | None, found: Result) -> None:
    from vectable.cli.demo.ask import columns

    heading(f"\n“{text}”{f'   where {where}' if where else ''}")
    if len(found):
        write_columns(columns(found))
    write(f"{len(found)} hits: {times(found.plan)}")


def _data(found: Result) -> dict[str, Any]:
    from vectable.cli.search import as_data

    return as_data(found, explain=False)


def _next_with_postgres(directory: Path) -> None:
    """The server ends with this command, so only what starts it again goes on from here."""
    heading("\nTry next")
    write(
        f"""\
  {_program("vectable")} serve --with-postgres {quote(str(directory))}      and, in another terminal:
  curl http://127.0.0.1:3000/api/v1/tables/code_layouts/search/similarity \\
    -H 'content-type: application/json' \\
    -d '{{"query": "compress a file", "column": "teaches_embedding", "limit": 3, "select": ["title"]}}'"""
    )


def _next(db: str, built: Built) -> None:
    from vectable.config import DEFAULT_DATABASE

    db = shown(db)
    vectable, python = _program("vectable"), _program("python")
    option = "" if db == DEFAULT_DATABASE else f" --db {quote(db)}"
    # Not indented: this is for copying, and Python minds.
    program = f"""
import vectable
t = vectable.connect({json.dumps(db)}).table("code_layouts")
good = t.where(t.quality_score >= 7)
print(good.similar("compress a file").select("title", "kind").limit(5).collect())"""
    heading("\nTry next")
    write(
        f"""\
  {vectable} search code_layouts "compress a file" --where "quality_score >= 5" --explain{option}
  {vectable} describe code_layouts{option}

  {vectable} serve{option}      and, in another terminal:
  curl http://127.0.0.1:3000/api/v1/tables/code_layouts/search/similarity \\
    -H 'content-type: application/json' \\
    -d '{{"query": "compress a file", "column": "teaches_embedding", "limit": 3, "select": ["title"]}}'

  {python} -c {quote(program)}"""
    )


def _program(name: str) -> str:
    """What to type for a program of this environment, of which the shell may know nothing: `make` activates
    none."""
    here = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if not here.exists() or (found and Path(found).parent.samefile(here.parent)):
        return name
    return quote(os.path.relpath(here) if here.is_relative_to(Path.cwd()) else str(here))
