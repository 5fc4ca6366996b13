"""Puts of many rows at once, by column: what a bulk load is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np

from vectable.core.key import KeyBytes
from vectable.core.rows import Guard, Put, Value
from vectable.core.vectors import Matrix

Stored = Sequence[bytes | None]
"""One version's vectors in their stored form, one per row; None where a row has none."""


class StoredVectors(Sequence[bytes | None]):
    """`Stored` as one matrix: (n, dimensions), little-endian float32. `present`: 1 for each row that has a
    vector, 0 for each that has none; None where all have one."""

    __slots__ = ("matrix", "present")

    def __init__(self, matrix: Matrix, present: bytearray | None = None) -> None:
        self.matrix = matrix
        self.present = present

    @classmethod
    def room(cls, count: int, dimensions: int) -> StoredVectors:
        """Room for so many, of which each is still to be `put`, or written into `matrix`."""
        return cls(np.empty((count, dimensions), "<f4"))

    def put(self, at: int, vector: bytes | None) -> None:
        """Replaces one."""
        if vector is not None:
            self.matrix[at] = np.frombuffer(vector, "<f4")
        if self.present is not None:
            self.present[at] = vector is not None
        elif vector is None:
            self.present = bytearray(b"\1") * len(self.matrix)
            self.present[at] = 0

    def __len__(self) -> int:
        return len(self.matrix)

    @overload
    def __getitem__(self, at: int) -> bytes | None: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[bytes | None]: ...
    def __getitem__(self, at: int | slice) -> bytes | Sequence[bytes | None] | None:
        if isinstance(at, slice):
            return StoredVectors(self.matrix[at], None if self.present is None else self.present[at])
        if self.present is not None and not self.present[at]:
            return None
        stored: bytes = self.matrix[at].tobytes()
        return stored

    def __iter__(self) -> Iterator[bytes | None]:
        return map(self.__getitem__, range(len(self)))

    def take(self, positions: Sequence[int]) -> StoredVectors:
        """Those at `positions`, in that order."""
        present = None if self.present is None else bytearray(map(self.present.__getitem__, positions))
        whole = present is None or all(present)
        return StoredVectors(self.matrix[np.asarray(positions, dtype=np.intp)], None if whole else present)


@dataclass(frozen=True, slots=True, eq=False)
class PutColumns(Sequence[Put]):
    """Puts that all write the same columns and the same versions' cells, under one guard. A backend that
    knows nothing of columns takes them one by one: they are made when first asked for.

    `columns` by name, `wants` and `vectors` by version id, each as long as `keys`; every version in `vectors`
    is in `wants`. `revisions`: see `Put.revision`."""

    keys: Sequence[KeyBytes]
    columns: Mapping[str, Sequence[Value]]
    wants: Mapping[str, Sequence[bytes | None]] = field(default_factory=dict)
    vectors: Mapping[str, Stored] = field(default_factory=dict)
    guard: Guard = "any"
    revisions: Sequence[Any] | None = None
    _made: list[Put] = field(default_factory=list, init=False, repr=False)

    @classmethod
    def of(cls, puts: Sequence[Put], columns: Sequence[str]) -> PutColumns:
        """Puts under one guard and without revisions, each with all its cells, by column."""
        versions = dict.fromkeys(id_ for put in puts for id_ in (*put.wants, *put.vectors))
        return cls(
            [put.key for put in puts],
            {name: [put.values.get(name) for put in puts] for name in columns},
            {id_: [put.wants.get(id_) for put in puts] for id_ in versions},
            {id_: [put.vectors.get(id_) for put in puts] for id_ in versions},
            puts[0].guard if puts else "any",
        )

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, at: int) -> Put: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Put]: ...
    def __getitem__(self, at: int | slice) -> Put | Sequence[Put]:
        return self._each()[at]

    def __iter__(self) -> Iterator[Put]:
        return iter(self._each())

    def _each(self) -> list[Put]:
        if len(self._made) != len(self.keys):
            self._made[:] = self._make()
            # So that no vector is held twice: once more in the matrix it came in.
            listed = {id_: [put.vectors.get(id_) for put in self._made] for id_ in self.vectors}
            object.__setattr__(self, "vectors", listed)
        return self._made

    def _make(self) -> Iterator[Put]:
        values, wants = _rows_of(self.columns, len(self)), _rows_of(self.wants, len(self))
        vectors = _rows_of(self.vectors, len(self))
        revisions = [None] * len(self) if self.revisions is None else self.revisions
        for key, row, want, given, revision in zip(self.keys, values, wants, vectors, revisions, strict=True):
            known = {version: vector for version, vector in given.items() if vector is not None}
            yield Put(key, row, want, known, self.guard, revision)

    def take(self, positions: Sequence[int]) -> PutColumns:
        """Those at `positions`, in that order."""

        def taken(values: Sequence[Any]) -> Sequence[Any]:
            if isinstance(values, StoredVectors):
                return values.take(positions)
            return list(map(values.__getitem__, positions))

        return PutColumns(
            taken(self.keys),
            {name: taken(values) for name, values in self.columns.items()},
            {version: taken(values) for version, values in self.wants.items()},
            {version: taken(values) for version, values in self.vectors.items()},
            self.guard,
            None if self.revisions is None else taken(self.revisions),
        )

    def unsettled(self) -> list[int]:
        """Positions of rows with a cell that wants a vector and is given none."""
        found: set[int] = set()
        for version, wants in self.wants.items():
            vectors = self.vectors.get(version)
            if isinstance(vectors, StoredVectors):
                if vectors.present is None:
                    continue
                missing = [not present for present in vectors.present]
            else:
                missing = [True] * len(wants) if vectors is None else [each is None for each in vectors]
            found.update(i for i, want in enumerate(wants) if missing[i] and want is not None)
        return sorted(found)


def _rows_of(columns: Mapping[str, Sequence[Any]], count: int) -> Iterator[dict[str, Any]]:
    if not columns:
        return ({} for _ in range(count))
    names = list(columns)
    return (dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True))
