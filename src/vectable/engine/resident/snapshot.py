"""What a search reads: one version's rows at one mark, immutable, swapped by reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.predicate import Predicate
from vectable.core.vectors import Matrix
from vectable.engine.resident.coded import Codes
from vectable.engine.resident.columns import FilterColumn
from vectable.engine.resident.delta import DeltaView
from vectable.engine.resident.segment import Base
from vectable.engine.vectorized import ResidentColumn, evaluate

Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]
_REMEMBERED = 4


class Kept:
    """The live positions a filter keeps, read-only."""

    def __init__(self, where: Predicate, mask: Mask) -> None:
        mask.flags.writeable = False
        self.where = where
        self.mask = mask
        self.count = int(np.count_nonzero(mask))
        self.uses = 0
        """Searches it has served: counted without a lock, to decide whether codes pay off."""
        self.codes: Codes | None = None
        """Of those of its rows that the base has."""

    @cached_property
    def positions(self) -> Positions:
        """The same, listed."""
        found = np.flatnonzero(self.mask)
        found.flags.writeable = False
        return found


@dataclass(frozen=True)
class Snapshot:
    """Positions 0..len(base)-1 are the base's rows in key order, those behind it the delta's as they came.
    Only live positions are rows of the table that can be found."""

    mark: Mark
    base: Base
    delta: DeltaView
    live: Mask | None
    """bool[size]; None: every position is live."""
    searchable: int
    """How many positions are live."""
    rows: int
    """Rows of the table, those without a servable vector included."""
    columns: Mapping[str, ResidentColumn]
    """Filter columns of `size` values each, by the id of what they hold (`column_id`)."""

    @cached_property
    def base_rows(self) -> int:
        """How many positions are the base's."""
        return len(self.base)

    @cached_property
    def size(self) -> int:
        """How many positions there are."""
        return len(self.base) + self.delta.length

    @property
    def dead(self) -> int:
        """How many positions are no longer rows."""
        return self.size - self.searchable

    @cached_property
    def shortest(self) -> float:
        """No row's vector is shorter."""
        lengths = [p.shortest for p in (self.base, self.delta) if len(p.scale)]
        return min(lengths, default=1.0)

    @cached_property
    def longest(self) -> float:
        """No row's vector is longer."""
        return max(self.base.longest, self.delta.longest)

    def has(self, wanted: Iterable[FilterColumn] | None) -> bool:
        """Whether these filter columns are loaded."""
        return all(c.id in self.columns for c in wanted or ())

    def key_at(self, position: int) -> KeyBytes:
        """The key of the row at `position`."""
        if position < self.base_rows:
            key: KeyBytes = self.base.keys[position]
            return key
        return self.delta.keys[position - self.base_rows]

    @cached_property
    def _delta_index(self) -> dict[KeyBytes, int]:
        start = len(self.base)
        return {self.delta.keys[i]: start + i for i in range(self.delta.length)}

    def find(self, key: KeyBytes) -> int:
        """The live position of `key`, -1 where it has no servable vector."""
        at = self._delta_index.get(key, -1)
        if at < 0:
            at = self.base.keys.find(key)
        return at if at >= 0 and (self.live is None or self.live[at]) else -1

    def vectors(self, positions: Positions) -> Matrix:
        """The stored vectors at `positions`, gathered."""
        if not self.delta.length:
            return self.base.matrix[positions]
        count = self.base_rows
        inside = positions < count
        if inside.all():
            return self.base.matrix[positions]
        out = np.empty((len(positions), self.base.matrix.shape[1]), np.float32)
        out[inside] = self.base.matrix[positions[inside]]
        out[~inside] = self.delta.matrix[positions[~inside] - count]
        return out

    @cached_property
    def _filters(self) -> dict[int, Kept]:
        return {}

    def kept(self, where: Predicate, names: Mapping[str, str]) -> Kept:
        """`matching`, remembered for the last few predicates (told apart by identity)."""
        filters = self._filters
        found = filters.get(id(where))
        # The predicate is held with its answer, so its id is nobody else's.
        if found is None:
            found = Kept(where, self.matching(where, names))
            if len(filters) >= _REMEMBERED:
                filters.clear()
            filters[id(where)] = found
        return found

    @property
    def coded_nbytes(self) -> int:
        """Memory held by codes of remembered filters."""
        held = [kept.codes for kept in list(self._filters.values())]
        return sum(c.scan.nbytes for c in held if c is not None)

    def remembers(self, where: Predicate) -> bool:
        """Whether `kept` answers at once."""
        return id(where) in self._filters

    def matching(self, where: Predicate, names: Mapping[str, str]) -> Mask:
        """bool[size]: live positions that satisfy the bound predicate. `names`: column id by the name the
        predicate uses. Raises KeyError for a column that is not loaded."""
        mask = evaluate(where, {name: self.columns[key] for name, key in names.items()}, self.size)
        return mask if self.live is None else np.logical_and(mask, self.live, out=mask)
