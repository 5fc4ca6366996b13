"""A table of notes: what the tests of SQLite databases write and read."""

from __future__ import annotations

import sqlite3

from vectable.drivers.sqlite import SqliteDriver
from vectable.drivers.sqlite.writer import WriteFunction

CREATE = "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, body)"


def create(connection: sqlite3.Connection) -> None:
    """Makes the table."""
    connection.execute(CREATE)


def add(body: object) -> WriteFunction[int]:
    """A write of one note; its id."""

    def run(connection: sqlite3.Connection) -> int:
        return int(connection.execute("INSERT INTO notes (body) VALUES (?)", (body,)).lastrowid or 0)

    return run


def bodies(driver: SqliteDriver) -> list[object]:
    """Every note, in the order they were written."""
    with driver.reading() as connection:
        return [row[0] for row in connection.execute("SELECT body FROM notes ORDER BY id").fetchall()]
