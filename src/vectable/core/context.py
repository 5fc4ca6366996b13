"""Who asks, within what bounds: handed to every engine call."""

from __future__ import annotations

import time
from dataclasses import dataclass

from vectable.core.predicate import TRUE, Predicate
from vectable.core.schema import DEFAULT_NAMESPACE
from vectable.errors import BackendTimeout


@dataclass(frozen=True, slots=True)
class Context:
    """`scope` is and-ed into every read and write. `deadline` is in seconds of `time.monotonic()`."""

    namespace: str = DEFAULT_NAMESPACE
    principal: str = "local"
    scope: Predicate = TRUE
    deadline: float | None = None
    request_id: str | None = None
    idempotency_key: str | None = None

    def check_deadline(self) -> None:
        """Raises BackendTimeout once the deadline has passed."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise BackendTimeout("the deadline passed", hint="narrow the filter or raise the timeout")


LOCAL = Context()
