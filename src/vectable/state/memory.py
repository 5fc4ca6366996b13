"""The state store and the vector cache in plain Python: for tests, and for databases that need not last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vectable.errors import Conflict
from vectable.interfaces import Entry


@dataclass(slots=True)
class MemoryState:
    """What outlives a store: entries by key, and the last revision given."""

    entries: dict[str, Entry] = field(default_factory=dict)
    revision: int = 0


class MemoryStateStore:
    """Bookkeeping in a dictionary. Nothing suspends, so every commit is atomic. Stores over the same `state`
    see each other's commits."""

    def __init__(self, state: MemoryState | None = None) -> None:
        self._state = state or MemoryState()

    async def get(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The entries that exist among `keys`."""
        entries = self._state.entries
        return {key: entries[key] for key in keys if key in entries}

    async def scan(self, prefix: str) -> dict[str, Entry]:
        """Every entry whose key starts with `prefix`, ordered by key."""
        entries = self._state.entries
        return {key: entries[key] for key in sorted(entries) if key.startswith(prefix)}

    async def commit(
        self,
        expects: Mapping[str, int] | None = None,
        puts: Mapping[str, bytes] | None = None,
        deletes: Sequence[str] = (),
    ) -> None:
        """All or nothing. A revision is never given twice, so a key deleted and put again has a new one.
        Raises Conflict when a key's revision is not the one expected (0: absent)."""
        state = self._state
        for key, revision in (expects or {}).items():
            entry = state.entries.get(key)
            if (0 if entry is None else entry.revision) != revision:
                raise Conflict("the state changed meanwhile", hint="read it again", context={"key": key})
        state.revision += 1
        for key in deletes:
            state.entries.pop(key, None)
        for key, value in (puts or {}).items():
            state.entries[key] = Entry(bytes(value), state.revision)


class MemoryVectorCache:
    """Vectors by content key in a dictionary, oldest first."""

    def __init__(self) -> None:
        self._vectors: dict[bytes, bytes] = {}
        self._models: dict[bytes, str] = {}

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The vectors that are cached among `keys`."""
        return {key: self._vectors[key] for key in keys if key in self._vectors}

    async def put_many(self, items: Mapping[bytes, bytes], model: str) -> None:
        """Stores or replaces vectors; what is put last is pruned last."""
        for key, vector in items.items():
            self._vectors.pop(key, None)
            self._vectors[key] = bytes(vector)
            self._models[key] = model

    async def scan(self, after: bytes = b"", limit: int = 1_000) -> Sequence[tuple[bytes, bytes, str]]:
        """(key, vector, model) of the next entries behind the key `after`, by key; at most `limit`."""
        behind = sorted(key for key in self._vectors if key > after)
        return [(key, self._vectors[key], self._models[key]) for key in behind[:limit]]

    async def clear(self) -> int:
        """How many entries were removed."""
        removed = len(self._vectors)
        self._vectors.clear()
        self._models.clear()
        return removed

    async def size(self) -> tuple[int, int]:
        """(entries, bytes of their vectors)."""
        return len(self._vectors), sum(len(v) for v in self._vectors.values())

    async def prune(self, max_bytes: int) -> int:
        """Drops the oldest entries until at most `max_bytes` remain; how many were dropped."""
        _, total = await self.size()
        dropped = 0
        while total > max_bytes:
            oldest = next(iter(self._vectors))
            total -= len(self._vectors.pop(oldest))
            del self._models[oldest]
            dropped += 1
        return dropped


class NoVectorCache:
    """Keeps nothing, for whoever holds its vectors in memory alone."""

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Never any."""
        return {}

    async def put_many(self, items: Mapping[bytes, bytes], model: str) -> None:
        """Forgets them."""

    async def scan(self, after: bytes = b"", limit: int = 1_000) -> Sequence[tuple[bytes, bytes, str]]:
        """Never any."""
        return []

    async def clear(self) -> int:
        """Always 0."""
        return 0

    async def size(self) -> tuple[int, int]:
        """Always (0, 0)."""
        return 0, 0

    async def prune(self, max_bytes: int) -> int:
        """Always 0."""
        return 0
