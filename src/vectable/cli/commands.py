"""The commands by name. A command's module is imported when it runs or its help is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from vectable.errors import did_you_mean

_COMMANDS = {
    "demo": ("vectable.cli.demo.command", "Build a table from Python's own documentation and search it."),
    "serve": ("vectable.cli.serve", "Serve a database over HTTP."),
    "config": ("vectable.cli.config", "Show the settings in force, and where they come from."),
    "tables": ("vectable.cli.tables", "List the tables."),
    "describe": ("vectable.cli.tables", "Show a table's columns, embeddings and indexes."),
    "import": ("vectable.cli.importing.command", "Load a Parquet, CSV, JSONL or Arrow file into a table."),
    "search": ("vectable.cli.search", "Find rows by meaning."),
    "status": ("vectable.cli.status", "Show what a database holds and what is going on."),
    "backup": ("vectable.cli.backup", "Copy a database to one file, while it is used."),
    "restore": ("vectable.cli.backup", "Make a backup a database again."),
    "attach": ("vectable.cli.attach", "Enrich a table of a PostgreSQL database that others own."),
    "detach": ("vectable.cli.attach", "Let go of an attached table."),
    "copy": ("vectable.cli.copy", "Copy tables from one database to another."),
    "keys": ("vectable.cli.keys", "Make, list and revoke API keys."),
    "models": ("vectable.cli.models", "List the embedding models, or load one."),
    "bench": ("vectable.cli.bench", "Measure this machine against the targets."),
}


class ReaderGone(Exception):
    """Nobody reads standard output any more. click would make a failure of a BrokenPipeError."""


class NoCommand(click.UsageError):
    """A command nobody knows. `hint` names what was meant, or all there are."""

    def __init__(self, name: str, ctx: click.Context) -> None:
        super().__init__(f"No such command {name!r}.", ctx)
        self.hint = did_you_mean(name, _COMMANDS, "commands")


class LazyGroup(click.Group):
    """A group that knows its commands' names and summaries without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _ = _COMMANDS[cmd_name]
        command = getattr(import_module(module), f"{cmd_name}_command")
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            if args[0].startswith("-"):
                raise
            raise NoCommand(args[0], ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGone from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"vectable {version('vectable')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  vectable demo                                  build a table and search it
  vectable import books books.csv --embed blurb  load a file, embed a column
  vectable search books "a heist in space"       find rows by meaning
  vectable serve                                 the same over HTTP, port 3000

\b
The database is a directory: --db DIRECTORY, else VECTABLE_DB, else ./vectable-data.
With --json a command writes JSON to standard output, and nothing else.
Exit codes: 0 done, 1 failed, 2 not understood, 130 interrupted.
NO_COLOR=1 turns colours off. Progress is shown on terminals only.""",
)
@click.option("--db", metavar="URL", help="The database, for the command that follows.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version)
@click.pass_context
def vectable(ctx: click.Context, db: str | None) -> Any:
    """Tables that embed themselves: put rows in a table, declare an embedding column, search by meaning."""
    ctx.obj = {"db": db}
