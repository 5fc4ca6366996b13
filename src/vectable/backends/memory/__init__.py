"""The backend in plain Python: obviously right rather than fast. It is the oracle other backends are measured
against, and a test aid."""

from vectable.backends.memory.backend import MemoryBackend, MemoryStorage

__all__ = ["MemoryBackend", "MemoryStorage"]
