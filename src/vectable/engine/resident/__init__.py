"""Resident rows: one version's vectors and filter columns in memory, always at a known mark."""

from vectable.engine.resident.background import Background
from vectable.engine.resident.registry import DEFAULT_BUDGET, ResidentRegistry

__all__ = ["DEFAULT_BUDGET", "Background", "ResidentRegistry"]
