"""Sorted keys, packed: one buffer of bytes and the offsets where each key begins."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from vectable.core.key import KeyBytes
from vectable.engine.resident.rows import raw


class PackedKeys(Sequence[KeyBytes]):
    """Immutable ascending keys; may lie in a mapped file. Position order is key order."""

    __slots__ = ("_blob", "_length", "_offsets")

    def __init__(self, blob: bytes | memoryview, offsets: NDArray[np.int64]) -> None:
        self._blob = blob
        self._offsets = offsets
        self._length = len(offsets) - 1

    @classmethod
    def of(cls, keys: Iterable[KeyBytes]) -> PackedKeys:
        """Packs `keys`, which must be in ascending order."""
        listed = keys if isinstance(keys, list) else list(keys)
        offsets = np.zeros(len(listed) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, listed), np.int64, len(listed)), out=offsets[1:])
        return cls(b"".join(listed), offsets)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position):  # type: ignore[no-untyped-def]
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(self._length))]
        if position >= self._length:
            raise IndexError(position)
        at = self._offsets.item
        return bytes(self._blob[at(position) : at(position + 1)])

    def find(self, key: KeyBytes) -> int:
        """The position of `key`, -1 where it is absent."""
        at = bisect_left(self, key)
        return at if at < self._length and self[at] == key else -1

    @property
    def buffers(self) -> tuple[memoryview, memoryview]:
        """(blob, offsets as little-endian int64), to be stored."""
        return memoryview(self._blob), raw(self._offsets.astype("<i8", copy=False))

    @property
    def nbytes(self) -> int:
        return len(self._blob) + self._offsets.nbytes
