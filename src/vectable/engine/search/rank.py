"""The best k rows of a snapshot, certain to be those of the definition: score descending, key ascending.

Float32 goodness nominates, float64 decides. With g the k-th best goodness among the eligible rows, every row
of the true best k has at least `Bounds.cut(g)`; those are scored exactly, however many (ties included).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vectable.core.key import KeyBytes
from vectable.engine.resident.probe import Bounds, Floats, Probe, floor_of_best, kth_best
from vectable.engine.resident.snapshot import Kept, Mask, Positions, Snapshot

_CHUNK = 4_096
_FEW = 96
"""So many rows are sorted faster as a list than sifted as an array."""
_SCORED = 48
"""So many rows are scored exactly in less time than it takes to find out which of them need it."""
_LOWEST = np.float32(-np.inf)
_FINITE = 3.4e38


@dataclass(frozen=True, slots=True)
class After:
    """Rank only what comes behind this hit."""

    score: float
    key: KeyBytes


@dataclass(frozen=True, slots=True)
class Ranked:
    """Hits in final order. `examined`: vectors compared."""

    positions: Sequence[int]
    keys: Sequence[KeyBytes]
    scores: Sequence[float]
    distances: Sequence[float]
    examined: int


@dataclass(frozen=True, slots=True)
class Pool:
    """Eligible rows and their goodness; `positions` None: goodness[i] is of position i, and rows that are not
    eligible have minus infinity."""

    goodness: Floats
    positions: Positions | None
    examined: int


def pool_of(
    snapshot: Snapshot, probe: Probe, mask: Mask | None, count: int, kept: Kept | None = None
) -> Pool:
    """Everything in `mask` (None: every position), of which there are `count`: by a scan over all rows, or
    over the eligible ones alone where they are few. `kept`: the mask's own, where it is remembered."""
    if mask is not None and 2 * count < snapshot.size:
        return pool_at(snapshot, probe, np.flatnonzero(mask) if kept is None else kept.positions)
    base, delta = snapshot.base, snapshot.delta
    if not probe.bounds(snapshot.shortest, snapshot.longest).certain:
        # Float32 breaks down on these vectors: every row is as good as another until it is scored.
        goodness = np.zeros(snapshot.size, np.float32)
    elif delta.length:
        parts = [probe.goodness(p.matrix, p.scale) for p in (base, delta)]
        goodness = np.concatenate(parts)
    else:
        goodness = probe.goodness(base.matrix, base.scale)
    if mask is not None:
        np.copyto(goodness, _LOWEST, where=~mask)
    return Pool(goodness, None, snapshot.size)


def pool_at(snapshot: Snapshot, probe: Probe, positions: Positions) -> Pool:
    """The rows at `positions`, each once."""
    base, delta, count = snapshot.base, snapshot.delta, snapshot.base_rows
    if not probe.bounds(snapshot.shortest, snapshot.longest).certain:
        return Pool(np.zeros(len(positions), np.float32), positions, len(positions))
    if not delta.length:
        goodness = probe.goodness(base.matrix, base.scale, positions)
        return Pool(goodness, positions, len(positions))
    inside = positions < count
    first, rest = positions[inside], positions[~inside]
    goodness = np.concatenate(
        [
            probe.goodness(base.matrix, base.scale, first),
            probe.goodness(delta.matrix, delta.scale, rest - count),
        ]
    )
    return Pool(goodness, np.concatenate([first, rest]), len(positions))


def best(
    snapshot: Snapshot,
    probe: Probe,
    pool: Pool,
    k: int,
    threshold: float | None = None,
    after: After | None = None,
) -> Ranked:
    """The best `k` of the pool with at least the threshold's score, behind `after`."""
    if k <= 0:
        return Ranked((), (), (), (), 0)
    bounds = probe.bounds(snapshot.shortest, snapshot.longest)
    goodness, wanted = pool.goodness, k
    if after is not None and bounds.certain:
        goodness, near = _behind(goodness, bounds, probe.exact_goodness(after.score))
        wanted += near
    chosen = _contenders(goodness, wanted, bounds)
    positions = chosen if pool.positions is None else pool.positions[chosen]
    scores, distances = exact_scores(snapshot, probe, positions)
    keep = _wanted(snapshot, positions, scores, threshold, after)
    if keep is not None:
        positions, scores, distances = positions[keep], scores[keep], distances[keep]
    return _ordered(snapshot, positions, scores, distances, k, pool.examined)


def best_of(
    snapshot: Snapshot, probe: Probe, positions: Positions, k: int, threshold: float | None = None
) -> Ranked:
    """The best `k` of the rows at `positions`, each given once, with at least the threshold's score."""
    if k <= 0 or len(positions) > _SCORED:
        return best(snapshot, probe, pool_at(snapshot, probe, positions), k, threshold)
    scores, distances = exact_scores(snapshot, probe, positions)
    keep = _wanted(snapshot, positions, scores, threshold, None)
    if keep is not None:
        positions, scores, distances = positions[keep], scores[keep], distances[keep]
    return _ordered(snapshot, positions, scores, distances, k, len(positions))


def _below(value: float) -> np.float32:
    """A float32 not above `value`: a bound must not be rounded up on its way to float32."""
    return np.float32(np.nextafter(np.float32(min(max(value, -_FINITE), _FINITE)), _LOWEST))


def _above(value: float) -> np.float32:
    """A float32 not below `value`."""
    return np.float32(np.nextafter(np.float32(min(max(value, -_FINITE), _FINITE)), -_LOWEST))


def _contenders(goodness: Floats, k: int, bounds: Bounds) -> Positions:
    """Where the goodness lies that the exact best k may have."""
    if not bounds.certain:
        return _at_least(goodness, -math.inf)
    floor = floor_of_best(goodness, k)
    if floor is None:
        return _at_least(goodness, bounds.cut(kth_best(goodness, k)))
    # The cut only rises with what it is made from: those behind the floor's are a few too many.
    near = _at_least(goodness, bounds.cut(floor))
    if len(near) <= k:
        return near
    values = goodness[near]
    return near[values >= _below(bounds.cut(kth_best(values, k)))]


def _at_least(goodness: Floats, cut: float) -> Positions:
    if cut == -math.inf:
        return np.flatnonzero(goodness > _LOWEST)
    return np.flatnonzero(goodness >= _below(cut))


def _behind(goodness: Floats, bounds: Bounds, exact: float) -> tuple[Floats, int]:
    """Goodness without the rows that surely come before a hit of that exact goodness, and how many of those
    left may still come before it."""
    upper, lower = _above(bounds.surely(exact)), _below(bounds.least(exact))
    left = np.where(goodness > upper, _LOWEST, goodness)
    return left, int(np.count_nonzero(left >= lower))


def exact_scores(
    snapshot: Snapshot, probe: Probe, positions: Positions
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(scores, distances) of the rows at `positions`, by the definition."""
    if len(positions) <= _CHUNK:
        return probe.score(snapshot.vectors(positions))
    parts = [
        probe.score(snapshot.vectors(positions[at : at + _CHUNK])) for at in range(0, len(positions), _CHUNK)
    ]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _wanted(
    snapshot: Snapshot,
    positions: Positions,
    scores: NDArray[np.float64],
    threshold: float | None,
    after: After | None,
) -> Mask | None:
    keep: Mask | None = None
    if threshold is not None:
        keep = scores >= threshold
    if after is not None:
        behind = scores < after.score
        for i in np.flatnonzero(scores == after.score).tolist():
            behind[i] = snapshot.key_at(int(positions[i])) > after.key
        keep = behind if keep is None else keep & behind
    return keep


def _ordered(
    snapshot: Snapshot,
    positions: Positions,
    scores: NDArray[np.float64],
    distances: NDArray[np.float64],
    k: int,
    examined: int,
) -> Ranked:
    if len(positions) > k + _FEW:
        positions, scores, distances = _without_surplus(snapshot, positions, scores, distances, k)
    at, listed, apart = positions.tolist(), scores.tolist(), distances.tolist()
    some: Sequence[int] = range(len(at))
    if 0 < k < len(at):
        least = sorted(listed)[-k]
        some = [i for i in some if listed[i] >= least]
    ranks = sorted([(-listed[i], snapshot.key_at(at[i]), i) for i in some])[:k]
    return Ranked(
        [at[i] for _, _, i in ranks],
        [key for _, key, _ in ranks],
        [listed[i] for _, _, i in ranks],
        [apart[i] for _, _, i in ranks],
        examined,
    )


def _without_surplus(
    snapshot: Snapshot,
    positions: Positions,
    scores: NDArray[np.float64],
    distances: NDArray[np.float64],
    k: int,
) -> tuple[Positions, NDArray[np.float64], NDArray[np.float64]]:
    """Without rows that cannot be among the best k. Of rows tied at the k-th score the base's are in key
    order already, so the first k of them are enough."""
    if k == 0:
        return positions[:0], scores[:0], distances[:0]
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    keep = scores > least
    ties = np.flatnonzero(scores == least)
    tied = positions[ties]
    inside = tied < len(snapshot.base)
    first = ties[inside][np.argsort(tied[inside], kind="stable")][:k]
    keep[first] = True
    keep[ties[~inside]] = True
    return positions[keep], scores[keep], distances[keep]


def count_at_least(snapshot: Snapshot, probe: Probe, pool: Pool, threshold: float) -> int:
    """How many rows of the pool have at least the threshold's score."""
    return int(np.count_nonzero(at_least(snapshot, probe, pool, threshold)))


def at_least(snapshot: Snapshot, probe: Probe, pool: Pool, threshold: float) -> Mask:
    """bool over the pool: the rows with at least the threshold's score, decided exactly."""
    bounds = probe.bounds(snapshot.shortest, snapshot.longest)
    goodness = pool.goodness
    if not bounds.certain:
        doubtful = np.flatnonzero(goodness > _LOWEST)
        holds = np.zeros(len(goodness), np.bool_)
    else:
        exact = probe.exact_goodness(threshold)
        upper, lower = _above(bounds.surely(exact)), _below(bounds.least(exact))
        holds = goodness > upper
        doubtful = np.flatnonzero((goodness >= lower) & ~holds & (goodness > _LOWEST))
    positions = doubtful if pool.positions is None else pool.positions[doubtful]
    scores, _ = exact_scores(snapshot, probe, positions)
    holds[doubtful] = scores >= threshold
    return holds
