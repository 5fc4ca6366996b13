"""Backup into one file, and back: consistent, atomic, checked."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from vectable.drivers.sqlite.connections import check_library, connect, sync, use_wal
from vectable.drivers.sqlite.failures import Translated
from vectable.drivers.sqlite.migrations import version_of
from vectable.errors import (
    AlreadyExists,
    BackendError,
    DatabaseDamaged,
    InvalidInput,
    ReadOnlyDatabase,
)
from vectable.interfaces import Progress

_PAGES_PER_STEP = 1_024
_BUSY_TIMEOUT_S = 30.0
_MAX_JUMP = 1 << 40
_STAGED = "restoring"
_OR_REPLACE = "or say overwrite=True (--overwrite on the command line)"
_ANOTHER = "name another file made by vectable backup; nothing was changed"
_LEFTOVER = re.compile(rf"\.+{_STAGED}(?:\.(\d+)-[0-9a-f]+\.partial(?:-\w+)?)?")


class Source(Protocol):
    """What a backup needs of a driver."""

    @property
    def file(self) -> Path: ...
    def reading(self) -> AbstractContextManager[sqlite3.Connection]: ...


def backup(source: Source, file: Path, overwrite: bool, progress: Progress | None) -> None:
    """See SqliteDriver.backup."""
    file = file.absolute()
    if file.is_dir():
        raise InvalidInput(f"{file} is a directory", hint="name a file for the backup")
    if file.parent == source.file.parent:
        raise InvalidInput(f"{file} is inside the database's own directory", hint="put backups elsewhere")
    if file.exists() and not overwrite:
        raise AlreadyExists(f"{file} exists", hint=f"choose another name, {_OR_REPLACE}")
    with _replacing(file) as partial, Translated(partial), source.reading() as connection:
        # A transaction held open pins the moment: writers no longer make the copy start over.
        connection.execute("SELECT 1 FROM meta").fetchone()
        _copy(connection, partial, progress)


def _copy(source: sqlite3.Connection, target: Path, progress: Progress | None) -> None:
    def report(_status: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)

    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = OFF")
        source.backup(copy, pages=_PAGES_PER_STEP, progress=report)
        copy.execute("PRAGMA journal_mode = DELETE").fetchall()
    sync(target)


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """A name beside `file` that becomes `file` when the block ends well, and is gone when not."""
    if not file.parent.is_dir():
        raise InvalidInput(f"there is no directory {file.parent}", hint="create it first")
    if not os.access(file.parent, os.W_OK):
        raise ReadOnlyDatabase(f"{file.parent} may not be written", hint="choose another directory")
    partial = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        yield partial
        os.replace(partial, file)
        sync(file.parent)
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{partial}{suffix}").unlink(missing_ok=True)


def restore(
    file: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Makes the backup `file` the database in `directory`, all of it or nothing. Marks and cursors taken
    before expire, derived index files are dropped. Processes that have the database open see the restored
    content at their next read. `progress` hears of the pages copied.

    Raises InvalidInput (no such file, not a backup), DatabaseDamaged, DatabaseNewer; AlreadyExists when
    `directory` holds a database with content and `overwrite` is false; ReadOnlyDatabase, DiskFull."""
    check_library()
    backup_file, home = Path(file).absolute(), Path(directory).absolute()
    if not backup_file.is_file():
        raise InvalidInput(f"there is no file {backup_file}", hint="name a file made by vectable backup")
    if home.exists() and not home.is_dir():
        raise InvalidInput(f"{home} is a file", hint="a database is a directory")
    database = home / "vectable.db"
    state = _state_of(database)
    if state != "empty" and not overwrite:
        raise AlreadyExists(f"{home} holds a database", hint=f"choose another directory, {_OR_REPLACE}")
    if not home.parent.is_dir():
        raise InvalidInput(f"there is no directory {home.parent}", hint="create it first")
    with _directory(home):
        _restore(backup_file, database, database.exists() and state != "damaged", progress)
    shutil.rmtree(home / "indexes", ignore_errors=True)


@contextmanager
def _directory(home: Path) -> Iterator[None]:
    """`home` exists within the block, and afterwards unless it is new and the block failed."""
    is_new = not home.exists()
    try:
        home.mkdir(exist_ok=True)
        sync(home.parent)
    except OSError as error:
        raise ReadOnlyDatabase(f"{home} may not be written: {error.strerror}") from error
    try:
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):  # somebody may have put something there meanwhile
                home.rmdir()
        raise


def _restore(backup_file: Path, database: Path, in_place: bool, progress: Progress | None) -> None:
    remove_leftovers(database.parent)
    staged = database.with_name(f".{_STAGED}")
    with _replacing(staged) as partial, Translated(partial):
        try:
            with Translated(backup_file), _opened_backup(backup_file) as source:
                _copy(source, partial, progress)
        except (DatabaseDamaged, InvalidInput) as error:
            raise type(error)(error.detail, hint=_ANOTHER, context=error.context) from error
        with closing(connect(partial, "write", busy_timeout_s=_BUSY_TIMEOUT_S)) as copy:
            _check_integrity(copy, backup_file)
            _begin_new_incarnation(copy)
    try:
        with Translated(database):
            if in_place:
                _overwrite_through_sqlite(staged, database)
            else:
                _replace_file(staged, database)
    finally:
        staged.unlink(missing_ok=True)


def remove_leftovers(directory: Path) -> None:
    """Removes what restores that were killed left in `directory`."""
    for path in directory.iterdir():
        found = _LEFTOVER.fullmatch(path.name)
        if found and not (found[1] and _alive(int(found[1]))):
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def _opened_backup(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(file, "read", busy_timeout_s=_BUSY_TIMEOUT_S)) as connection:
        if version_of(connection, file) == 0:
            raise InvalidInput(f"{file} is empty", hint="name a file made by vectable backup")
        connection.execute("BEGIN")
        connection.execute("SELECT 1 FROM meta").fetchone()
        yield connection


def _check_integrity(connection: sqlite3.Connection, file: Path) -> None:
    problems = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")]
    if problems != ["ok"]:
        raise DatabaseDamaged(
            f"{file} is damaged: {problems[0]}",
            hint=_ANOTHER,
            context={"problems": problems},
        )


def _begin_new_incarnation(connection: sqlite3.Connection) -> None:
    """History forks here: positions in the old one, and revisions somebody remembers, must not match."""
    jump = 1 + secrets.randbelow(_MAX_JUMP)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE meta SET value = lower(hex(randomblob(8))) WHERE name = 'incarnation'")
    connection.execute("UPDATE meta SET value = value + ? WHERE name = 'state_revision'", (jump,))
    connection.execute("UPDATE state SET revision = revision + ?", (jump,))
    connection.execute("COMMIT")


def _state_of(database: Path) -> str:
    """ "empty", "full" or "damaged"."""
    if not database.exists() or database.stat().st_size == 0:
        return "empty"
    try:
        with Translated(database), closing(connect(database, "write", busy_timeout_s=1.0)) as connection:
            if version_of(connection, database) == 0:
                return "empty"
            query = "SELECT (SELECT count(*) FROM tables) + (SELECT count(*) FROM state)"
            return "full" if connection.execute(query).fetchone()[0] else "empty"
    except (DatabaseDamaged, InvalidInput):
        return "damaged"
    except BackendError:
        return "full"


def _overwrite_through_sqlite(staged: Path, database: Path) -> None:
    """Other processes may have it open: only SQLite can change it under them, in one transaction."""
    with closing(connect(database, "write", busy_timeout_s=_BUSY_TIMEOUT_S)) as target:
        use_wal(target, 0.0)
        with closing(connect(staged, "read", busy_timeout_s=_BUSY_TIMEOUT_S)) as source:
            source.backup(target, pages=-1)
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _replace_file(staged: Path, database: Path) -> None:
    # The old log would be played into the new file.
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    os.replace(staged, database)
    sync(database.parent)
