"""Base segments: the bulk of one version's vectors, sorted by key, immutable, kept in a mapped file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.vectors import Matrix
from vectable.drivers import derived_file
from vectable.engine.resident.keys import PackedKeys
from vectable.engine.resident.rows import inverse, lengths, raw

_KIND = "base-segment"


@dataclass(frozen=True, slots=True)
class Base:
    """Row i is keys[i], matrix[i]. `absent` are the keys of rows without a servable vector."""

    mark: Mark
    keys: PackedKeys
    matrix: Matrix
    scale: NDArray[np.float32]
    """1 / length of each row."""
    shortest: float
    longest: float
    """Least and greatest length of a row (0 without rows)."""
    absent: PackedKeys
    digest: str
    """Names the contents: what an index over them is bound to."""
    mapped: bool = False

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Memory it needs, mapped or not."""
        return self.matrix.nbytes + self.scale.nbytes + self.keys.nbytes + self.absent.nbytes


def make_base(mark: Mark, keys: PackedKeys, matrix: Matrix, absent: Sequence[KeyBytes]) -> Base:
    """A base over rows sorted by key."""
    matrix = np.ascontiguousarray(matrix)
    matrix.flags.writeable = False
    of = lengths(matrix)
    digest = blake3(raw(matrix))
    for buffer in keys.buffers:
        digest.update(buffer)
    return Base(
        mark,
        keys,
        matrix,
        inverse(of),
        float(of.min()) if len(of) else 0.0,
        float(of.max()) if len(of) else 0.0,
        PackedKeys.of(sorted(absent)),
        digest.hexdigest(16),
    )


def save_base(base: Base, path: Path, identity: str) -> None:
    """Writes the segment atomically. `identity` names table, version and what is servable. Raises OSError."""
    facts = {
        "kind": _KIND,
        "identity": identity,
        "mark": base.mark.value,
        "rows": len(base),
        "dimensions": base.matrix.shape[1],
        "shortest": base.shortest,
        "longest": base.longest,
        "digest": base.digest,
    }
    matrix = raw(base.matrix.astype("<f4", copy=False))
    scale = raw(base.scale.astype("<f4", copy=False))
    derived_file.write(path, facts, [matrix, scale, *base.keys.buffers, *base.absent.buffers])


def load_base(path: Path, identity: str, dimensions: int) -> Base | None:
    """The segment of that identity, mapped; None where there is none that can be trusted."""
    try:
        derived = derived_file.read(path)
    except derived_file.Unusable:
        return None
    facts = derived.facts
    wanted = {"kind": _KIND, "identity": identity, "dimensions": dimensions}
    if any(facts.get(name) != value for name, value in wanted.items()) or len(derived.sections) != 6:
        return None
    matrix, scale, blob, offsets, absent_blob, absent_offsets = derived.sections
    n = facts["rows"]
    if len(matrix) != n * dimensions * 4 or len(scale) != n * 4 or len(offsets) != (n + 1) * 8:
        return None
    return Base(
        Mark(facts["mark"]),
        PackedKeys(blob, np.frombuffer(offsets, "<i8").astype(np.int64, copy=False)),
        _floats(matrix).reshape(n, dimensions),
        _floats(scale),
        facts["shortest"],
        facts["longest"],
        PackedKeys(absent_blob, np.frombuffer(absent_offsets, "<i8").astype(np.int64, copy=False)),
        facts["digest"],
        mapped=True,
    )


def _floats(section: memoryview) -> NDArray[np.float32]:
    return np.frombuffer(section, "<f4").astype(np.float32, copy=False)
