"""Numbered steps that make a file of an older version ours. A step, once released, never changes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from vectable.drivers.sqlite.migrations import _0001_rows_and_state, _0002_vector_cache
from vectable.errors import DatabaseNewer, InvalidInput, ReadOnlyDatabase

APPLICATION_ID = 0x56454354
"""ASCII "VECT": bytes 68-71 of the file."""
MIGRATIONS: tuple[tuple[str, ...], ...] = (_0001_rows_and_state.STATEMENTS, _0002_vector_cache.STATEMENTS)
VERSION = len(MIGRATIONS)


def version_of(connection: sqlite3.Connection, file: Path) -> int:
    """How many migrations the file has seen (0: it is empty). Writes nothing.
    Raises DatabaseNewer, and InvalidInput for the file of another program."""
    version, application, objects = _header(connection)
    if application != APPLICATION_ID:
        if objects or version or application:
            raise InvalidInput(f"{file} belongs to another program", hint="choose another directory")
        return 0
    if version > VERSION:
        raise DatabaseNewer(
            f"{file} is of format {version}; this Vectable reads up to {VERSION}",
            hint="upgrade Vectable",
            context={"format": version, "supported": VERSION},
        )
    return version


def _header(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """user_version, application_id and the number of tables and indexes, all of one moment: another process
    may be migrating."""
    outer = connection.in_transaction
    if not outer:
        connection.execute("BEGIN")
    try:
        (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
    finally:
        if not outer and connection.in_transaction:
            connection.execute("ROLLBACK")
    return version, application, objects


def migrate(connection: sqlite3.Connection, file: Path, upto: int = VERSION) -> int:
    """Brings the file to version `upto`, each step in a transaction of its own; how many steps were taken.
    Safe while other processes do the same. Raises what `version_of` raises."""
    taken = 0
    while version_of(connection, file) < upto:
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have taken the step while this one waited for the lock.
            version = version_of(connection, file)
            if version < upto:
                for statement in MIGRATIONS[version]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {version + 1}")
                taken += 1
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return taken


def require_current(connection: sqlite3.Connection, file: Path) -> None:
    """For files that cannot be written. Raises ReadOnlyDatabase when the file would have to be migrated."""
    version = version_of(connection, file)
    if version < VERSION:
        raise ReadOnlyDatabase(
            f"{file} is of format {version} and may not be written, so it cannot be brought to {VERSION}",
            hint="open it once from where it may be written",
        )
