"""Every error Vectable raises on purpose: one tree, independent of HTTP.

Each class has a unique kebab-case `code`. `detail` is one precise sentence, `hint` names what to do or what
exists instead, `context` holds machine-readable facts (never secrets, never the embedded text).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar


class VectableError(Exception):
    """Base of all errors raised on purpose. `retryable`: the same call may succeed later, unchanged."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(
        self, detail: str, *, hint: str | None = None, context: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.context: dict[str, Any] = dict(context or {})

    def __str__(self) -> str:
        return f"{self.detail} ({self.hint})" if self.hint else self.detail


class InvalidInput(VectableError):
    """What the caller gave is not usable as it is."""

    code = "invalid-input"


class InvalidFilter(InvalidInput):
    """A filter that cannot mean anything: an unknown operator, a value of the wrong type, too deep."""

    code = "invalid-filter"


class InvalidRow(InvalidInput):
    """A row that does not fit its table. `context` holds `row` (position from 0) and `column` where known."""

    code = "invalid-row"


class InvalidVector(InvalidInput):
    """A vector of the wrong dimension, not finite, or zero under cosine."""

    code = "invalid-vector"


class InvalidCursor(InvalidInput):
    """A cursor that is damaged, or belongs to another query."""

    code = "invalid-cursor"


class UnknownColumn(InvalidInput, AttributeError, KeyError):
    """A column name the table does not have; the hint says what exists. `t.colum` and `row["colum"]` raise
    it, so it is what `hasattr` and mappings expect, too."""

    code = "unknown-column"


class ModelMismatch(InvalidInput):
    """A query vector of one model against a column embedded by another."""

    code = "model-mismatch"


class AccessDenied(VectableError):
    """The caller may not do this."""

    code = "access-denied"


class Unauthenticated(AccessDenied):
    """Nobody is named by the request, or the key is not known."""

    code = "unauthenticated"


class NotFound(VectableError):
    """The named thing does not exist."""

    code = "not-found"


class TableNotFound(NotFound):
    code = "table-not-found"


class RowNotFound(NotFound):
    code = "row-not-found"


class IndexNotFound(NotFound):
    code = "index-not-found"


class JobNotFound(NotFound):
    code = "job-not-found"


class ModelNotFound(NotFound):
    code = "model-not-found"


class Conflict(VectableError):
    """The state of things forbids it now: something exists already, or changed meanwhile."""

    code = "conflict"


class AlreadyExists(Conflict):
    """A table, column or index of that name exists."""

    code = "already-exists"


class KeyExists(Conflict):
    """A row with that key exists, and the caller asked for an error in that case. `context`: `keys`."""

    code = "key-exists"


class StaleGeneration(Conflict):
    """The table's definition changed since the caller read it. The engine reloads and retries."""

    code = "stale-generation"
    retryable = True


class MarkExpired(Conflict):
    """A mark that is foreign, too old, or from before a restore: reload from the start."""

    code = "mark-expired"
    retryable = True


class CursorExpired(Conflict):
    """The table moved on (or the version a cursor pinned is gone): start the query again."""

    code = "cursor-expired"


class TooLarge(VectableError):
    """A request or value over a documented limit."""

    code = "too-large"


class Unsupported(VectableError):
    """Well-formed, but not offered here (by this backend, model or column type)."""

    code = "unsupported"


class RateLimited(VectableError):
    code = "rate-limited"
    retryable = True


class Overloaded(VectableError):
    """Too much work at once; `context["retry_after_s"]` says when to come back."""

    code = "overloaded"
    retryable = True


class ProviderError(VectableError):
    """A model or embedding endpoint failed."""

    code = "provider-error"
    retryable = True


class ModelUnavailable(ProviderError):
    """The model is known, but its weights cannot be had here; says which places were tried."""

    code = "model-unavailable"
    retryable = False


class EndpointError(ProviderError):
    """A remote embedding endpoint gave no usable answer; nothing of it was kept."""

    code = "endpoint-error"


class EndpointUnavailable(EndpointError):
    """A remote endpoint cannot be reached, is too busy, or is left alone after repeated failures."""

    code = "endpoint-unavailable"


class EndpointTimeout(EndpointError):
    """A remote endpoint did not answer in time."""

    code = "endpoint-timeout"


class EndpointRefused(EndpointError):
    """A remote endpoint refuses for a reason repeating does not change: a wrong key, an unknown model."""

    code = "endpoint-refused"
    retryable = False


class SpendCapReached(EndpointError):
    """What the day's spend cap leaves does not pay for the request: nothing was sent."""

    code = "spend-cap-reached"


class BackendError(VectableError):
    """The database failed."""

    code = "backend-error"


class BackendBusy(BackendError):
    """Another process held the database longer than the configured wait."""

    code = "backend-busy"
    retryable = True


class BackendUnavailable(BackendError):
    """The database's server cannot be reached, or the connection to it was lost."""

    code = "backend-unavailable"
    retryable = True


class BackendTimeout(BackendError):
    """The deadline passed before the backend answered."""

    code = "backend-timeout"
    retryable = True


class DatabaseNewer(BackendError):
    """The files were written by a newer Vectable."""

    code = "database-newer"


class DatabaseDamaged(BackendError):
    """The files are not a database, or are damaged; says how to restore."""

    code = "database-damaged"


class DiskFull(BackendError):
    """No space left: nothing was written, everything acknowledged before is safe."""

    code = "disk-full"
    retryable = True


class ReadOnlyDatabase(BackendError):
    """The directory or file may not be written."""

    code = "read-only-database"


class PrivilegeMissing(BackendError):
    """The database's role may not do that: nothing of it has happened. The hint is the GRANT to run."""

    code = "privilege-missing"


class OutcomeUnknown(BackendError):
    """The connection was lost while a write was on its way: it happened or not. Read to find out."""

    code = "outcome-unknown"


def did_you_mean(name: str, known: Iterable[str], noun: str) -> str:
    """A hint for a misspelt name: the nearest known ones first, whatever their case, else (up to 20 of) all
    that exist."""
    names = sorted(known)
    folded: dict[str, list[str]] = {}
    for each in names:
        folded.setdefault(each.casefold(), []).append(each)
    close = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)
    near = [each for match in close for each in folded[match]][:3]
    if near:
        return "did you mean " + " or ".join(repr(n) for n in near) + "?"
    if not names:
        return f"there are no {noun} yet"
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return f"known {noun}: {shown}"


def shift_row(error: VectableError, rows: int) -> None:
    """Makes the position an error names within one batch count from the `rows` before that batch."""
    position = error.context.get("row")
    if isinstance(position, int):
        error.context["row"] = rows + position
        error.detail = error.detail.replace(f"row {position}", f"row {rows + position}", 1)
