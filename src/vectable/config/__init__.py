"""Settings: what can be set, and from where each is taken."""

from vectable.config.settings import (
    DEFAULT_DATABASE,
    DEFAULT_MODEL,
    Settings,
    default_cache_directory,
    described_settings,
)
from vectable.config.sources import Setting, force

__all__ = [
    "DEFAULT_DATABASE",
    "DEFAULT_MODEL",
    "Setting",
    "Settings",
    "default_cache_directory",
    "described_settings",
    "force",
]
