"""What PostgreSQL and the way to it report, as our errors."""

from __future__ import annotations

import asyncio
import re
import ssl
from types import TracebackType

import asyncpg
from asyncpg import exceptions as pg

from vectable.errors import (
    BackendBusy,
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    Conflict,
    DatabaseDamaged,
    DiskFull,
    InvalidInput,
    InvalidRow,
    Overloaded,
    PrivilegeMissing,
    ReadOnlyDatabase,
    TooLarge,
    VectableError,
)

RETRIED = (pg.SerializationError, pg.DeadlockDetectedError, pg.InvalidCachedStatementError)
"""The transaction did not happen, and the same one may well succeed now."""
LOST = (
    pg.PostgresConnectionError,
    pg.ConnectionDoesNotExistError,
    pg.AdminShutdownError,
    pg.CrashShutdownError,
    pg.IdleSessionTimeoutError,
    ConnectionError,
    EOFError,
)
"""The connection is gone, and with it whatever was not committed."""
CONFUSED = (pg.InternalClientError,)
"""The connection lost track of what it was doing, as happens when the server dies at the wrong moment."""
STARTING = (pg.CannotConnectNowError,)
"""The server is starting up or shutting down: whoever waits a moment will know more."""
_DOWN_HINT = "check that the server runs and that the address is right"


def is_lost(error: BaseException) -> bool:
    """Whether `error` says that the connection is gone."""
    if isinstance(error, pg.InterfaceError):
        return "closed" in str(error)
    return isinstance(error, (*LOST, *CONFUSED, *STARTING))


def translate(error: BaseException, where: str) -> VectableError:
    """The error of ours that says what `error` means, met while working on the database at `where` (an
    address without a password)."""
    if isinstance(error, VectableError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        return _of_server(error, where)
    if isinstance(error, pg.ClientConfigurationError):
        text, _, more = str(error).partition("\nHINT: ")
        return InvalidInput(f"the PostgreSQL address cannot be used: {text}", hint=more.strip())
    if isinstance(error, ssl.SSLError):
        why = getattr(error, "verify_message", None) or error.reason or error
        return BackendUnavailable(
            f"no TLS connection to {where}: {why}",
            hint="check sslmode, and sslrootcert for a certificate of your own",
        )
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return BackendUnavailable(f"{where} did not answer in time", hint=_DOWN_HINT)
    if isinstance(error, ConnectionError) and "rejected SSL" in str(error):
        return BackendUnavailable(
            f"{where} offers no TLS, which sslmode asks for",
            hint="turn it on there (ssl = on), or say sslmode=disable where the way is trusted",
        )
    if is_lost(error) and not isinstance(error, ConnectionRefusedError):
        return BackendUnavailable(
            f"the connection to {where} was lost", hint="the same call may succeed in a moment"
        )
    if isinstance(error, OSError):
        return BackendUnavailable(f"{where} cannot be reached: {error.strerror or error}", hint=_DOWN_HINT)
    if isinstance(error, (OverflowError, pg.DataError)):
        return InvalidRow(f"a value does not fit its column: {error}")
    if isinstance(error, UnicodeError):
        return InvalidRow("text is not valid UTF-8", hint="remove lone surrogates")
    return BackendError(f"the PostgreSQL driver refused: {error}", context={"database": where})


def _of_server(error: asyncpg.PostgresError, where: str) -> VectableError:
    context = {"database": where, "sqlstate": error.sqlstate or ""}
    text = _without_values(str(error).split("\n", 1)[0])
    for kinds, make in _KINDS:
        if isinstance(error, kinds):
            found = make(error, text, where)
            found.context.update(context)
            return found
    return BackendError(f"PostgreSQL failed: {text}", context=context)


def _without_values(text: str) -> str:
    """The driver repeats the value it cannot send; what was to be stored is nobody's business."""
    found = re.fullmatch(r"invalid input for query argument \$(\d+): .* \((.*)\)", text, re.DOTALL)
    return text if found is None else f"parameter {found[1]}: {found[2]}"


def _denied(error: asyncpg.PostgresError, text: str, where: str) -> VectableError:
    return PrivilegeMissing(
        f"the role may not do this: {text}", hint=_grant(text) or "docs/postgresql.md lists the grants"
    )


def _grant(text: str) -> str:
    """The GRANT that is missing, from the server's "permission denied for KIND NAME"."""
    words = text.removeprefix("permission denied for ").split(" ", 1)
    if len(words) != 2 or words[0] == text:
        return ""
    privilege = {
        "table": "SELECT, INSERT, UPDATE, DELETE ON TABLE",
        "schema": "USAGE, CREATE ON SCHEMA",
        "database": "CREATE ON DATABASE",
        "sequence": "USAGE ON SEQUENCE",
        "function": "EXECUTE ON FUNCTION",
    }.get(words[0])
    if privilege is None:
        return ""
    return f"its owner may run: GRANT {privilege} {words[1]} TO the role; docs/postgresql.md lists all grants"


def _login(error: asyncpg.PostgresError, text: str, where: str) -> VectableError:
    return BackendError(f"{where} does not let us in: {text}", hint="check user, password and pg_hba.conf")


_KINDS = (
    (
        (pg.InvalidSQLStatementNameError, pg.DuplicatePreparedStatementError),
        lambda e, text, where: BackendError(
            f"a session of {where} is shared with other clients: {text}",
            hint="where a pooler is in between, set pool_mode=session, or name the server itself",
        ),
    ),
    (
        (pg.InvalidAuthorizationSpecificationError, pg.InvalidPasswordError),
        _login,
    ),
    (
        pg.InvalidCatalogNameError,
        lambda e, text, where: BackendError(
            f"there is no such database: {text}", hint="create it first: createdb NAME"
        ),
    ),
    (
        pg.TooManyConnectionsError,
        lambda e, text, where: Overloaded(
            f"{where} accepts no more connections: {text}",
            hint="lower postgres_pool_max, or raise max_connections of the server",
            context={"retry_after_s": 1},
        ),
    ),
    (
        pg.QueryCanceledError,
        lambda e, text, where: BackendTimeout(
            "a statement took longer than allowed and was stopped", hint="raise postgres_statement_timeout_ms"
        ),
    ),
    (
        pg.LockNotAvailableError,
        lambda e, text, where: BackendBusy(f"somebody held a lock for too long: {text}", hint="try again"),
    ),
    (
        RETRIED,
        lambda e, text, where: BackendBusy(f"others kept changing the same rows: {text}", hint="try again"),
    ),
    (
        (pg.DiskFullError,),
        lambda e, text, where: DiskFull(
            f"the server of {where} has no space left",
            hint="free some space; what was acknowledged before is safe, this write did not happen",
        ),
    ),
    (
        pg.ReadOnlySQLTransactionError,
        lambda e, text, where: ReadOnlyDatabase(
            f"{where} takes no writes: {text}",
            hint="name the primary server, not a standby, and a role whose transactions may write",
        ),
    ),
    ((pg.InsufficientPrivilegeError,), _denied),
    (
        pg.NameTooLongError,
        lambda e, text, where: InvalidInput(
            f"PostgreSQL takes no such name: {text}", hint="a name there has at most 63 bytes"
        ),
    ),
    (
        (pg.ProgramLimitExceededError, pg.OutOfMemoryError),
        lambda e, text, where: TooLarge(f"PostgreSQL refused for its size: {text}"),
    ),
    (
        (pg.DataCorruptedError, pg.IndexCorruptedError),
        lambda e, text, where: DatabaseDamaged(f"{where} is damaged: {text}", hint="restore a backup"),
    ),
    (
        (*STARTING, *(k for k in LOST if issubclass(k, asyncpg.PostgresError))),
        lambda e, text, where: BackendUnavailable(
            f"{where} is not available: {text}", hint="the same call may succeed in a moment"
        ),
    ),
    (
        pg.IntegrityConstraintViolationError,
        lambda e, text, where: Conflict(f"a constraint of the database forbids it: {text}"),
    ),
    (pg.DataError, lambda e, text, where: InvalidRow(f"a value does not fit its column: {text}")),
)


class Translated:
    """`with Translated(where):` turns every error of the driver into ours. May be entered any number of
    times."""

    __slots__ = ("_where",)

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, TRANSLATED):
            raise translate(error, self._where) from error


TRANSLATED = (
    asyncpg.PostgresError,
    pg.InterfaceError,
    pg.InternalClientError,
    OSError,
    EOFError,
    OverflowError,
    UnicodeError,
)
