"""`vectable backup` and `vectable restore`."""

from __future__ import annotations

import click

from vectable.cli.options import db_option, json_option, open_existing, run, shown
from vectable.cli.output import size, write, write_json

_OVERWRITE = "Replace what is there."


@click.command(
    "backup",
    epilog="""\b
Examples:
  vectable backup ../books.vectable
  vectable backup /mnt/backups/today.vectable --overwrite --db /srv/vectable""",
)
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--overwrite", is_flag=True, help=_OVERWRITE)
@db_option
@json_option
def backup_command(file: str, overwrite: bool, db: str, as_json: bool) -> None:
    """Copy a database to FILE: one moment, complete and checked, while others read and write."""
    run(_backup(db, file, overwrite))
    from pathlib import Path

    written = Path(file).stat().st_size
    if as_json:
        write_json({"file": file, "bytes": written})
    else:
        write(f"Wrote {file} ({size(written)}). Get it back with: vectable restore {file} --db DIRECTORY")


async def _backup(db: str, file: str, overwrite: bool) -> None:
    async with await open_existing(db) as database:
        await database.backup(file, overwrite=overwrite)


@click.command(
    "restore",
    epilog="""\b
Examples:
  vectable restore ../books.vectable --db ./books-again
  vectable restore today.vectable --db /srv/vectable --overwrite""",
)
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--overwrite", is_flag=True, help=_OVERWRITE)
@db_option
@json_option
def restore_command(file: str, overwrite: bool, db: str, as_json: bool) -> None:
    """Make FILE, written by `vectable backup`, the database --db names. The file is checked first, and a
    database that is there is replaced only with --overwrite."""
    from pathlib import Path

    from vectable.database import restore
    from vectable.handles.progress import progress

    with progress(f"restore {Path(file).name}", "pages") as update:
        restore(file, db, overwrite=overwrite, progress=lambda done, total: update(done, total or None))
    if as_json:
        write_json({"db": shown(db), "file": file})
    else:
        write(f"Restored {file} to {shown(db)}.")
