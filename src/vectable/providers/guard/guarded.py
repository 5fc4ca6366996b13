"""One endpoint under guard: waits its turn, keeps to limits and budget, retries, and gives up in time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tenacity.wait import wait_random_exponential

from vectable.errors import EndpointUnavailable
from vectable.providers.guard.attempt import Answered, AttemptFailed
from vectable.providers.guard.breaker import Breaker
from vectable.providers.guard.bucket import TokenBucket
from vectable.providers.guard.budget import Budget
from vectable.providers.guard.slots import HostSlots

T = TypeVar("T")
TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a request is tried, and how long all its waiting between tries may last."""

    max_attempts: int
    max_wait_s: float
    first_wait_s: float = 0.5


@dataclass(slots=True)
class Counts:
    """What happened to an endpoint in this process, for metrics."""

    requests: int = 0
    """Sent, repeated ones too."""
    succeeded: int = 0
    failed: int = 0
    retried: int = 0
    limited: int = 0
    """Answered with 429."""
    refused: int = 0
    """Not sent, because the breaker was open."""
    tokens: int = 0


class GuardedEndpoint:
    """Sends requests to one endpoint of one model; bound to no event loop."""

    def __init__(
        self,
        host: str,
        *,
        breaker: Breaker,
        requests: TokenBucket,
        tokens: TokenBucket,
        slots: HostSlots,
        budget: Budget,
        patience: Patience,
    ) -> None:
        self.host = host
        self.breaker = breaker
        self.counts = Counts()
        self.in_flight = 0
        self._requests = requests
        self._tokens = tokens
        self._slots = slots
        self._budget = budget
        self._patience = patience

    async def call(
        self,
        send: Callable[[], Awaitable[Answered[T]]],
        *,
        likely_tokens: int,
        most_tokens: int,
        max_attempts: int | None = None,
    ) -> T:
        """What `send` gives; it raises AttemptFailed for what it cannot. `likely_tokens` draw on the rate
        limit; `most_tokens`, which the endpoint cannot exceed, on the budget. Raises AttemptFailed of the
        last try, and SpendCapReached before a try that the budget does not cover."""
        retries = _Retries(self._patience, max_attempts)
        retrying = AsyncRetrying(
            stop=retries.stop,
            wait=retries.wait,
            retry=retry_if_exception(lambda error: isinstance(error, AttemptFailed) and error.retry),
            before_sleep=self._note_retry,
            sleep=asyncio.sleep,
            reraise=True,
        )
        return await retrying(self._once, send, likely_tokens, most_tokens)

    def _note_retry(self, _: RetryCallState) -> None:
        self.counts.retried += 1

    async def _once(
        self, send: Callable[[], Awaitable[Answered[T]]], likely_tokens: int, most_tokens: int
    ) -> T:
        self._require_closed()
        await self._requests.take(1)
        try:
            await self._tokens.take(likely_tokens)
        except asyncio.CancelledError:
            self._requests.give_back(1)
            raise
        unused = likely_tokens
        try:
            async with self._slots.one():
                answered = await self._send(send, most_tokens)
            unused = 0 if answered.tokens is None else likely_tokens - answered.tokens
            return answered.value
        except AttemptFailed as failed:
            if failed.billed:
                unused = 0
            if failed.retry_after_s:
                self._requests.close_for(min(failed.retry_after_s, self._patience.max_wait_s))
            raise
        finally:
            self._tokens.give_back(unused)

    async def _send(self, send: Callable[[], Awaitable[Answered[T]]], most_tokens: int) -> Answered[T]:
        reservation = await self._budget.reserve(most_tokens)
        if not self.breaker.admit():
            await self._budget.settle(reservation, 0)
            raise self._left_alone()
        self.counts.requests += 1
        self.in_flight += 1
        used = most_tokens  # unless something better is known: the request may have been billed
        try:
            answered = await send()
            used = most_tokens if answered.tokens is None else answered.tokens
            self.breaker.succeeded()
            self.counts.succeeded += 1
            self.counts.tokens += used
            return answered
        except AttemptFailed as failed:
            if not failed.billed:
                used = 0
            elif failed.tokens is not None:
                used = failed.tokens
            self._note_failure(failed)
            raise
        except BaseException:
            self.breaker.abandoned()
            raise
        finally:
            self.in_flight -= 1
            await self._budget.settle(reservation, used)

    def _note_failure(self, failed: AttemptFailed) -> None:
        self.counts.failed += 1
        if failed.error.context.get("status") == TOO_MANY_REQUESTS:
            self.counts.limited += 1
        if failed.against_endpoint:
            self.breaker.failed(failed.error.detail)
        else:
            self.breaker.succeeded()

    def _require_closed(self) -> None:
        if self.breaker.wait_s() > 0:
            raise self._left_alone()

    def _left_alone(self) -> AttemptFailed:
        self.counts.refused += 1
        return AttemptFailed(
            EndpointUnavailable(
                f"{self.host} is left alone after {self.breaker.failures} failures in a row, "
                f"the last: {self.breaker.reason}",
                hint="it is tried again by itself; a backup in the models file bridges such times",
                context={"host": self.host, "retry_after_s": max(1, math.ceil(self.breaker.wait_s()))},
            )
        )


class _Retries:
    """When a failed request is tried again: exponentially later with full jitter, or when the endpoint says,
    within the patience there is."""

    def __init__(self, patience: Patience, max_attempts: int | None) -> None:
        self._patience = patience
        self._max_attempts = min(max_attempts or patience.max_attempts, patience.max_attempts)
        self._jitter = wait_random_exponential(multiplier=patience.first_wait_s, max=patience.max_wait_s)

    def wait(self, state: RetryCallState) -> float:
        """Seconds until the next try."""
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after_s if isinstance(error, AttemptFailed) else None
        jitter = self._jitter(state)
        # All who were told the same time would come back at the same moment.
        return jitter if asked is None else asked + min(jitter, 0.25 * asked + 0.05)

    def stop(self, state: RetryCallState) -> bool:
        """Whether the patience is over; asked after `wait`."""
        waits = state.idle_for + state.upcoming_sleep
        return state.attempt_number >= self._max_attempts or waits > self._patience.max_wait_s
