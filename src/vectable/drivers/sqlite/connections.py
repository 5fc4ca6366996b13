"""Connections: how a file is opened, and a pool of readers usable from any thread."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from vectable.errors import BackendError

Synchronous = Literal["full", "normal"]
Mode = Literal["write", "read", "immutable"]
PAGE_SIZE = 8_192
MIN_VERSION = (3, 37, 0)
"""Of the SQLite library: DROP COLUMN, strict partial indexes over generated columns, RETURNING."""
_MMAP = 2 << 30
_CACHE_KIB = 16 << 10
_JOURNAL_LIMIT = 4 << 20
_MODES: dict[Mode, str] = {"write": "mode=rw", "read": "mode=ro", "immutable": "mode=ro&immutable=1"}


def check_library() -> None:
    """Raises BackendError when the SQLite library is too old."""
    if sqlite3.sqlite_version_info < MIN_VERSION:
        wanted = ".".join(map(str, MIN_VERSION))
        raise BackendError(
            f"SQLite {sqlite3.sqlite_version} is too old", hint=f"Vectable needs SQLite {wanted} or newer"
        )


def sync(path: Path) -> None:
    """Makes a file's content, or a directory's list of names, survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def connect(
    file: Path, mode: Mode, *, busy_timeout_s: float, synchronous: Synchronous = "full", create: bool = False
) -> sqlite3.Connection:
    """A connection in autocommit mode, usable from any thread, one at a time. Raises sqlite3.Error."""
    how = "mode=rwc" if create else _MODES[mode]
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?{how}",
        uri=True,
        timeout=busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        # The first statement reads the file: what is wrong with it is known from here on.
        connection.execute(f"PRAGMA synchronous = {synchronous.upper()}")
        connection.execute(f"PRAGMA mmap_size = {_MMAP}")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("PRAGMA foreign_keys = OFF")
        # Debian builds SQLite to overwrite deleted content with zeros: dropping a version would write it all.
        connection.execute("PRAGMA secure_delete = FAST")
        connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_LIMIT}")
    except BaseException:
        connection.close()
        raise
    return connection


def use_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Puts the file into WAL mode; a file without content also gets our page size. SQLite does not wait for
    other openers here, so this does, until `deadline` (time.monotonic()). Raises sqlite3.Error."""
    while True:
        try:
            connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


class ReaderPool:
    """Reading connections, lent to one thread at a time. `connect` makes one; at most `spare` wait unused."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], spare: int = 8) -> None:
        self._connect = connect
        self._spare = spare
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        self._process = os.getpid()

    def check(self) -> None:
        """Raises BackendError after `close` and in a forked child."""
        if self._closed:
            raise BackendError("the database is closed", hint="open it again with vectable.connect")
        if os.getpid() != self._process:
            raise BackendError(
                "the database was opened before this process was forked",
                hint="open it in the child, or start processes with the spawn method",
            )

    def take(self) -> sqlite3.Connection:
        """A connection outside any transaction. Give it back with `give`."""
        self.check()
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def give(self, connection: sqlite3.Connection) -> None:
        """Takes a connection back, ending the transaction it may be in."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            connection.close()
            return
        with self._lock:
            if not self._closed and len(self._idle) < self._spare:
                self._idle.append(connection)
                return
        connection.close()

    def drain(self) -> None:
        """Closes the connections that wait unused."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def close(self) -> None:
        """No further `take`; connections that are out are closed when they come back."""
        self._closed = True
        if os.getpid() == self._process:
            self.drain()
