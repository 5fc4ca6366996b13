"""A backend's opaque position in a table's history: everything up to here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """Only the backend that made it can read `value`; equal marks mean equal table contents."""

    value: str
