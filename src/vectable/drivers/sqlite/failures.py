"""What SQLite reports, as our errors."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from types import TracebackType

from vectable.errors import (
    BackendBusy,
    BackendError,
    BackendTimeout,
    DatabaseDamaged,
    DiskFull,
    InvalidRow,
    ReadOnlyDatabase,
    TooLarge,
    VectableError,
)

RESTORE_HINT = "restore a backup: vectable restore FILE"
_FULL = sqlite3.SQLITE_FULL
_PRIMARY = 0xFF
_LITTLE_SPACE = 1 << 20
_WRITE_FAILED = frozenset(
    {sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_FSYNC}
)


def _no_space(file: Path) -> bool:
    """Whether a failed write is explained by a full file system, or by a limit on the size of files."""
    try:
        stats = os.statvfs(file.parent)
    except (OSError, AttributeError):
        return False
    if stats.f_bavail * stats.f_frsize < _LITTLE_SPACE:
        return True
    try:
        import resource
    except ImportError:
        return False
    return resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY


def _disk_full(file: Path) -> DiskFull:
    return DiskFull(
        f"no space left to write {file}",
        hint="free some space and try again; what was acknowledged before is safe, this write did not happen",
        context={"file": str(file)},
    )


def translate(error: Exception, file: Path) -> VectableError:
    """The error of ours that says what `error`, raised by sqlite3 while working on `file`, means."""
    if isinstance(error, OverflowError):
        return InvalidRow("an integer does not fit 64 bits")
    if isinstance(error, UnicodeError):
        return InvalidRow("text is not valid UTF-8", hint="remove lone surrogates")
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return BackendError(f"SQLite refused: {error}", context={"file": str(file)})
    primary = code & _PRIMARY
    context = {"file": str(file), "sqlite": getattr(error, "sqlite_errorname", str(code))}
    if primary == _FULL or (code in _WRITE_FAILED and _no_space(file)):
        return _disk_full(file)
    if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return DatabaseDamaged(f"{file} is damaged: {error}", hint=RESTORE_HINT, context=context)
    if primary == sqlite3.SQLITE_READONLY:
        return ReadOnlyDatabase(
            f"{file} may not be written",
            hint="check the permissions of the directory and its files",
            context=context,
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        return BackendBusy(
            f"another process held {file} for too long",
            hint="try again, or raise busy_timeout",
            context=context,
        )
    if primary == sqlite3.SQLITE_TOOBIG:
        return TooLarge("a value is larger than SQLite stores", hint="at most 1,000,000,000 bytes")
    if primary == sqlite3.SQLITE_INTERRUPT:
        return BackendTimeout("the statement was interrupted", context=context)
    return BackendError(f"SQLite failed on {file}: {error}", context=context)


class Translated:
    """`with Translated(file):` turns every sqlite3 error into ours. May be entered any number of times."""

    __slots__ = ("_file",)

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, (sqlite3.Error, OverflowError, UnicodeError)):
            raise translate(error, self._file) from error
