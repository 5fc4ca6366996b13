"""One SQLite database: a directory with `vectable.db` and `indexes/` (derived files)."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from vectable.drivers.sqlite import backup as backups
from vectable.drivers.sqlite.connections import (
    ReaderPool,
    Synchronous,
    check_library,
    connect,
    sync,
    use_wal,
)
from vectable.drivers.sqlite.failures import Translated
from vectable.drivers.sqlite.migrations import migrate, require_current, version_of
from vectable.drivers.sqlite.writer import WriteFunction, Writer
from vectable.errors import BackendError, InvalidInput, ReadOnlyDatabase
from vectable.interfaces import Progress

T = TypeVar("T")
DATABASE_FILE = "vectable.db"
INDEX_DIRECTORY = "indexes"
_READ_ONLY_HINT = "open it from where the directory may be written"


class SqliteDriver:
    """Connections to the database in `directory`, which is created (its parent must exist) when missing.

    `synchronous`: "full" (a power cut loses nothing acknowledged) or "normal" (it may lose the last moments;
    a crash of the process never does). `busy_timeout_s`: how long a write waits for other processes before
    BackendBusy. One driver may be shared by a backend, a state store and a cache; it is not usable in a child
    forked after `open`."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "full",
        busy_timeout_s: float = 30.0,
    ) -> None:
        if not os.fspath(directory):
            raise InvalidInput("the database has no path", hint="give a directory, e.g. ./vectable-data")
        if synchronous not in ("full", "normal"):
            raise InvalidInput(f"synchronous is {synchronous!r}", hint="use full or normal")
        self.directory = Path(directory).absolute()
        self.file = self.directory / DATABASE_FILE
        self.index_directory = self.directory / INDEX_DIRECTORY
        self.identity = ""
        """Of the database, for ever: 32 hex digits, known once open. Copies and restores keep it."""
        self.read_only = False
        """Known once open."""
        self.translated = Translated(self.file)
        self._synchronous: Synchronous = synchronous
        self._busy_timeout_s = busy_timeout_s
        self._frozen: tuple[int, int, bool] | None = None
        self._lock = threading.Lock()
        self._opened = False
        self._readers = ReaderPool(self._connect_reader)
        self._writer = Writer(
            partial(
                connect, self.file, "write", busy_timeout_s=busy_timeout_s, synchronous=self._synchronous
            ),
            self.file,
        )
        self._finalizer = weakref.finalize(self, Writer.close, self._writer)

    # --- opening and closing

    def open(self) -> None:
        """Creates or migrates the files as needed; may be called again. Thread-safe.

        Raises InvalidInput (not a directory, no parent, the file of another program), ReadOnlyDatabase,
        DatabaseDamaged, DatabaseNewer (before anything is written), BackendBusy, DiskFull."""
        with self._lock:
            if self._opened:
                self._readers.check()
                return
            self._readers.check()
            check_library()
            self.read_only = not self._prepare_directory()
            with self.translated:
                connection = self._open_read_only() if self.read_only else self._open_writable()
                try:
                    (self.identity,) = connection.execute(
                        "SELECT value FROM meta WHERE name = 'identity'"
                    ).fetchone()
                except BaseException:
                    connection.close()
                    raise
            self._readers.give(connection)
            self._opened = True

    def _prepare_directory(self) -> bool:
        """Whether the database may be written."""
        directory = self.directory
        if directory.exists() and not directory.is_dir():
            raise InvalidInput(f"{directory} is a file", hint="a database is a directory")
        if not directory.parent.is_dir():
            raise InvalidInput(f"there is no directory {directory.parent}", hint="create it first")
        try:
            if not directory.exists():
                directory.mkdir(exist_ok=True)
                sync(directory.parent)
            (directory / INDEX_DIRECTORY).mkdir(exist_ok=True)
        except OSError as error:
            if not self.file.exists():
                raise ReadOnlyDatabase(
                    f"{directory} may not be written: {error.strerror}", hint="choose another directory"
                ) from error
            return False
        if self.file.is_dir():
            raise InvalidInput(f"{self.file} is a directory", hint="choose another directory")
        return os.access(directory, os.W_OK) and (not self.file.exists() or os.access(self.file, os.W_OK))

    def _open_writable(self) -> sqlite3.Connection:
        connection = connect(
            self.file,
            "write",
            busy_timeout_s=self._busy_timeout_s,
            synchronous=self._synchronous,
            create=True,
        )
        try:
            version_of(connection, self.file)
            if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                use_wal(connection, time.monotonic() + self._busy_timeout_s)
            migrate(connection, self.file)
            connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_read_only(self) -> sqlite3.Connection:
        if not self.file.exists():
            raise ReadOnlyDatabase(
                f"{self.directory} holds no database and may not be written", hint=_READ_ONLY_HINT
            )
        connection = self._connect_reader_read_only()
        try:
            require_current(connection, self.file)
        except BaseException:
            connection.close()
            raise
        return connection

    def close_now(self) -> None:
        """Finishes the writes that are queued, then closes every connection. May be called again."""
        self._writer.close()
        self._readers.close()
        self._finalizer.detach()

    async def close(self) -> None:
        """`close_now`, without holding up the event loop."""
        await asyncio.to_thread(self.close_now)

    # --- reading

    def _connect_reader(self) -> sqlite3.Connection:
        if not self._opened:
            raise BackendError("the database is not open yet", hint="call open() first")
        with self.translated:
            if self.read_only:
                return self._connect_reader_read_only()
            connection = connect(self.file, "write", busy_timeout_s=self._busy_timeout_s)
            connection.execute("PRAGMA query_only = ON")
            return connection

    def _connect_reader_read_only(self) -> sqlite3.Connection:
        """SQLite reads a WAL database that it cannot write only where the log's files are already there.
        Without them nobody else writes either, and the file may be read as one that never changes, until its
        stamp says otherwise."""
        try:
            connection = connect(self.file, "read", busy_timeout_s=self._busy_timeout_s)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise
            stamp = self._stamp()
            if stamp[2]:
                raise ReadOnlyDatabase(
                    f"{self.file} has a log that cannot be read without writing to the directory",
                    hint=_READ_ONLY_HINT,
                ) from error
            self._frozen = stamp
            return connect(self.file, "immutable", busy_timeout_s=self._busy_timeout_s)
        self._frozen = None
        return connection

    def _stamp(self) -> tuple[int, int, bool]:
        status = self.file.stat()
        try:
            logged = os.stat(f"{self.file}-wal").st_size > 0
        except OSError:
            logged = False
        return status.st_mtime_ns, status.st_size, logged

    def take(self) -> sqlite3.Connection:
        """A connection for reading, outside any transaction, for one thread at a time; `give` it back.
        Raises BackendError when closed, not open, or after a fork."""
        if self._frozen is not None and self._stamp() != self._frozen:
            self._readers.drain()
        return self._readers.take()

    def give(self, connection: sqlite3.Connection) -> None:
        """Ends the transaction, if any, and takes the connection back. Its cursors must be closed."""
        self._readers.give(connection)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a deferred read transaction: one consistent moment. Keep it short, for it holds
        up the log. Errors are ours."""
        with self.translated:
            connection = self.take()
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                self.give(connection)

    # --- writing

    def _submit(self, function: WriteFunction[T]) -> Future[T]:
        self._readers.check()
        if not self._opened:
            raise BackendError("the database is not open yet", hint="call open() first")
        if self.read_only:
            raise ReadOnlyDatabase(f"{self.file} may not be written", hint=_READ_ONLY_HINT)
        return self._writer.submit(function)

    async def write(self, function: WriteFunction[T]) -> T:
        """`function(connection)` inside a write transaction, perhaps together with others; its result once
        that is committed, its error (sqlite3's as ours) with nothing of it kept. See `WriteFunction`.

        A cancelled caller waits for the outcome, then is cancelled: the write happens or fails, all the same.
        Raises BackendBusy, DiskFull, ReadOnlyDatabase, DatabaseDamaged."""
        outcome = asyncio.wrap_future(self._submit(function))
        cancelled: asyncio.CancelledError | None = None
        while not outcome.done():
            try:
                await asyncio.wait([outcome])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            # Retrieved, so that asyncio does not complain of an error nobody looked at.
            outcome.exception()
            raise cancelled
        return outcome.result()

    def write_now(self, function: WriteFunction[T]) -> T:
        """`write` for callers outside an event loop: blocks until the outcome is known."""
        return self._submit(function).result()

    # --- housekeeping

    async def checkpoint(self) -> None:
        """Moves the log into the file, empties it, and gives free pages back to the file system, as far as
        other processes allow it right now. Does nothing on a read-only database."""
        if not self.read_only:
            self._readers.check()
            await asyncio.to_thread(self._checkpoint)

    def _checkpoint(self) -> None:
        backups.remove_leftovers(self.directory)
        with self.translated:
            connection = connect(self.file, "write", busy_timeout_s=1.0)
            try:
                # Not execute: that takes one step of a statement without columns, so gives one page back.
                connection.executescript("PRAGMA incremental_vacuum(20000)")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
            finally:
                connection.close()

    async def backup(
        self, file: str | os.PathLike[str], *, overwrite: bool = False, progress: Progress | None = None
    ) -> None:
        """Copies the database, as of one moment, into the single file `file`, while others read and write.
        `progress` gets pages (done, total), on another thread. The file appears whole or not at all.

        Raises AlreadyExists unless `overwrite`, InvalidInput (a directory, no parent), DiskFull."""
        self._readers.check()
        await asyncio.to_thread(backups.backup, self, Path(file), overwrite, progress)
