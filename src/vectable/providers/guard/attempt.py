"""One request to an endpoint: what it gave, or how it failed and what that allows."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar

from vectable.errors import VectableError

T = TypeVar("T")
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)
_LONGEST_S = 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """What came back; `tokens`: those the endpoint counted, None where it does not say."""

    value: T
    tokens: int | None


class AttemptFailed(Exception):
    """A request that gave nothing. `error` is what to raise when it stays so."""

    def __init__(
        self,
        error: VectableError,
        *,
        retry: bool = False,
        retry_after_s: float | None = None,
        against_endpoint: bool = False,
        elsewhere: bool = True,
        billed: bool = False,
        tokens: int | None = None,
    ) -> None:
        """`retry`: the same may succeed soon, at `retry_after_s` where the endpoint says when.
        `against_endpoint`: counts for the circuit breaker. `elsewhere`: another endpoint may do better.
        `billed`: it may have to be paid for all the same, with `tokens` where known."""
        super().__init__(error.detail)
        self.error = error
        self.retry = retry
        self.retry_after_s = retry_after_s
        self.against_endpoint = against_endpoint
        self.elsewhere = elsewhere
        self.billed = billed
        self.tokens = tokens


def retry_after(
    value: str | None, now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC)
) -> float | None:
    """Seconds a `Retry-After` header asks for, in either of its forms (seconds, an HTTP date); None where
    it is missing or unreadable. Never negative, at most a year."""
    if value is None:
        return None
    text = value.strip()
    try:
        seconds = float(text) if _SECONDS.fullmatch(text) else _until(text, now())
        return min(max(0.0, seconds), _LONGEST_S)
    except (TypeError, ValueError, OverflowError):
        return None


def _until(date: str, now: datetime.datetime) -> float:
    when = parsedate_to_datetime(date)
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.UTC)
    return max(0.0, (when - now).total_seconds())
