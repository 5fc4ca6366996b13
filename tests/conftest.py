"""What holds for every test: a clean environment, and properties that repeat themselves exactly."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

_SETTINGS_OF_OURS = ("VECTABLE_",)
_ALIASES = ("APP_USE_FAKE_EMBEDDINGS",)

# Both profiles leave slow machines alone: a deadline or a health check that fires under load proves nothing.
_PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("ci", derandomize=True, database=None, max_examples=50, **_PATIENT)
settings.register_profile("thorough", max_examples=2_000, **_PATIENT)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config: pytest.Config) -> None:
    """Forget settings of the person who runs the tests, before any module reads them at import."""
    for name in list(os.environ):
        if name.startswith(_SETTINGS_OF_OURS) or name in _ALIASES:
            del os.environ[name]
