"""The circuit breaker: an endpoint that keeps failing is left alone for a while, then tried once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

from vectable.providers.guard.bucket import Clock

State = Literal["closed", "open", "half-open"]
Change = Callable[[State, str], None]
"""Told the new state and why."""


class Breaker:
    """Closed: requests pass. Open, after `failures` in a row: none does, for `open_s` seconds. Half-open: one
    request tries; its success closes the breaker, its failure opens it again. Thread-safe."""

    def __init__(
        self,
        failures: int = 5,
        open_s: float = 30.0,
        *,
        clock: Clock = time.monotonic,
        on_change: Change | None = None,
    ) -> None:
        self._limit = failures
        self._open_s = open_s
        self._clock = clock
        self._on_change = on_change
        self._lock = threading.Lock()
        self._state: State = "closed"
        self._until = 0.0
        self._trial = False
        self.failures = 0
        """Failures in a row."""
        self.opened = 0
        """How often it opened."""
        self.reason = ""
        """What the last failure was."""

    @property
    def state(self) -> State:
        """The state now: an open breaker whose time is over is half-open."""
        return "half-open" if self._state == "open" and self._clock() >= self._until else self._state

    def wait_s(self) -> float:
        """Seconds until a request may pass; 0: one may now."""
        with self._lock:
            return self._wait()

    def _wait(self) -> float:
        if self._state == "closed":
            return 0.0
        if self._trial:
            return 1.0
        return max(0.0, self._until - self._clock())

    def admit(self) -> bool:
        """Whether a request may be sent now: one of `succeeded`, `failed`, `abandoned` is to follow."""
        with self._lock:
            if self._state == "closed":
                return True
            if self._wait() > 0:
                return False
            self._trial = True
            self._state = "half-open"
        self._tell("half-open")
        return True

    def succeeded(self) -> None:
        """A request was answered."""
        with self._lock:
            changed = self._state != "closed"
            self._state, self._trial, self.failures = "closed", False, 0
        if changed:
            self._tell("closed")

    def failed(self, reason: str) -> None:
        """A request was not answered as it should be."""
        with self._lock:
            self.failures += 1
            self.reason = reason
            opens = self._state == "half-open" or (self._state == "closed" and self.failures >= self._limit)
            self._trial = False
            if opens:
                self._state, self._until = "open", self._clock() + self._open_s
                self.opened += 1
        if opens:
            self._tell("open")

    def abandoned(self) -> None:
        """A request ended without telling anything about the endpoint."""
        with self._lock:
            self._trial = False

    def _tell(self, state: State) -> None:
        if self._on_change is not None:
            self._on_change(state, self.reason)
