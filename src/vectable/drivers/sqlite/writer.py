"""The one writer of a process: a thread that commits what is queued as a group."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from vectable.drivers.sqlite.failures import translate
from vectable.errors import BackendBusy, BackendError

T = TypeVar("T")
WriteFunction = Callable[[sqlite3.Connection], T]
"""Runs inside a transaction it neither begins nor ends. It may run again when a transaction it shared was
lost, so it must not have effects but on the connection."""
MAX_GROUP = 128
_CHECKPOINT_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class _Job:
    run: WriteFunction[Any]
    outcome: Future[Any]


class _TransactionLostError(Exception):
    """SQLite rolled the whole transaction back, the work of innocent jobs included."""


class Writer:
    """Takes write functions from any thread. Those waiting together share one `BEGIN IMMEDIATE … COMMIT`,
    each in a savepoint of its own, so one that fails undoes only itself. An outcome is known once COMMIT
    returned: what was acknowledged is durable."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], file: Path) -> None:
        self._connect = connect
        self._file = file
        self._wal = Path(f"{file}-wal")
        self._checkpointed = 0
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._process = os.getpid()

    def submit(self, function: WriteFunction[T]) -> Future[T]:
        """Queues `function`. The future cannot be cancelled; it has the function's result after COMMIT.
        Raises BackendError after `close`."""
        outcome: Future[T] = Future()
        outcome.set_running_or_notify_cancel()
        with self._lock:
            if self._closed:
                raise BackendError("the database is closed", hint="open it again with vectable.connect")
            if self._thread is None:
                # A daemon, so that a program that never closes still ends; `close` drains the queue first.
                self._thread = threading.Thread(target=self._run, name="vectable-sqlite-writer", daemon=True)
                self._thread.start()
            self._queue.put(_Job(function, outcome))
        return outcome

    def close(self) -> None:
        """Waits until everything queued has its outcome. Does nothing in a forked child."""
        if os.getpid() != self._process:
            return
        with self._lock:
            first, self._closed = not self._closed, True
            if first and self._thread is not None:
                self._queue.put(None)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            job = self._queue.get()
            if job is None:
                break
            group = [job]
            while len(group) < MAX_GROUP:
                try:
                    following = self._queue.get_nowait()
                except Empty:
                    break
                if following is None:
                    going = False
                    break
                group.append(following)
            self._commit(group)
            # The loop must not keep results alive while it waits.
            del job, group
            if self._queue.empty():
                self._checkpoint()
        if self._connection is not None:
            self._connection.close()

    def _commit(self, group: Sequence[_Job]) -> None:
        try:
            if self._connection is None:
                self._connection = self._connect()
            outcomes = self._transaction(self._connection, group)
        except BaseException as error:
            self._roll_back()
            lost = isinstance(error, _TransactionLostError)
            mapped = self._mapped(error.__cause__ if lost and error.__cause__ else error)
            if len(group) == 1 or isinstance(mapped, BackendBusy):
                for job in group:
                    job.outcome.set_exception(mapped)
                return
            for job in group:
                self._commit([job])
            return
        for job, (result, failure) in zip(group, outcomes, strict=True):
            if failure is None:
                job.outcome.set_result(result)
            else:
                job.outcome.set_exception(failure)

    def _transaction(
        self, connection: sqlite3.Connection, group: Sequence[_Job]
    ) -> list[tuple[Any, BaseException | None]]:
        outcomes: list[tuple[Any, BaseException | None]] = []
        connection.execute("BEGIN IMMEDIATE")
        for job in group:
            connection.execute("SAVEPOINT job")
            try:
                outcomes.append((job.run(connection), None))
            except BaseException as error:
                if not connection.in_transaction:
                    raise _TransactionLostError from error
                connection.execute("ROLLBACK TO job")
                outcomes.append((None, self._mapped(error)))
            connection.execute("RELEASE job")
        connection.execute("COMMIT")
        return outcomes

    def _mapped(self, error: BaseException) -> BaseException:
        if isinstance(error, (sqlite3.Error, OverflowError, UnicodeError)):
            mapped = translate(error, self._file)
            mapped.__cause__ = error
            return mapped
        return error

    def _roll_back(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            connection.close()
            self._connection = None

    def _checkpoint(self) -> None:
        """Moves the log into the file while nobody waits, so that commits need not."""
        try:
            size = self._wal.stat().st_size
            if size < _CHECKPOINT_BYTES:
                self._checkpointed = 0
            elif size - self._checkpointed >= _CHECKPOINT_BYTES and self._connection is not None:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._checkpointed = size
        except (OSError, sqlite3.Error):
            # Nothing is lost: the log stays, and the next attempt or the next opener moves it.
            self._checkpointed = 0
