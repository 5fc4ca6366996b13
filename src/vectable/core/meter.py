"""Meters: told what happened and how long it took, by whoever does the work."""

from __future__ import annotations

from typing import Literal, Protocol

Stage = Literal["tokenise", "queue", "inference", "search"]
"""Where the time of a request goes. `queue`: from being ready for a model to the start of the forward pass,
or of the remote request. `search`: everything but turning what is looked for into a vector."""


class Meter(Protocol):
    """Costs about a microsecond, never raises, may be called from any thread, and is never given a text."""

    def took(self, stage: Stage, seconds: float) -> None:
        """One piece of work spent that long in that stage. Called where the work was asked for, so that
        traces know whose it is."""

    def batch(self, model: str, items: int, tokens: int) -> None:
        """A model was given that much at once."""


class Unmetered:
    """A `Meter` that keeps nothing."""

    def took(self, stage: Stage, seconds: float) -> None:
        """Nothing."""

    def batch(self, model: str, items: int, tokens: int) -> None:
        """Nothing."""


UNMETERED = Unmetered()
