"""How much of the truth an index finds: measured on the table's own rows, overall and under filters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vectable.core.schema import Metric
from vectable.core.vectors import Vector
from vectable.engine.resident.probe import Floats, Probe, kth_best
from vectable.engine.resident.resident import FAST_SCAN
from vectable.engine.resident.segment import Base
from vectable.interfaces import VectorIndex, VectorLibrary

QUERIES = 100
SHOULD_FIND = 0.999
"""Recall a fast scan must reach to serve."""
ASKED_FOR = 0.99
"""Recall the search effort of an index somebody asked for is raised to, where it can be."""
K = 10
_FEW = 100
"""So few candidates are trusted only after not one miss: the queries measured with are not everybody's."""
_FEWEST_FILTERED = 60
"""Where a filter thins the rows out, the true ones stand farther apart from the others."""
_SEED = 97
_SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class Measured:
    """Recall@10, overall and under the worst of the filters, with so many candidates re-ranked exactly and
    that search effort."""

    recall: float
    filtered: float
    candidates: int
    filtered_candidates: int
    effort: int


@dataclass(frozen=True, slots=True)
class _Truth:
    probe: Probe
    goodness: Floats
    filter: int
    """Which filter; 0: none."""
    keep: NDArray[np.bool_] | None
    least: float
    """Goodness of the k-th nearest eligible row."""
    count: int


def tune(base: Base, metric: Metric, library: VectorLibrary, index: VectorIndex) -> Measured:
    """The least candidates and effort whose recall reaches the goal; when none does, the best there is."""
    truths = list(_truths(base, metric, library))
    goal = SHOULD_FIND if index.kind == FAST_SCAN else ASKED_FOR
    plain = [t for t in truths if t.filter == 0]
    recall, candidates, effort = _least(index, plain, goal, len(base), index.efforts[0])
    under = [t for t in truths if t.filter]
    filtered, filtered_candidates, effort = _least(index, under, goal, len(base), effort)
    return Measured(recall, filtered, candidates, filtered_candidates, effort)


def _least(
    index: VectorIndex, truths: Sequence[_Truth], goal: float, rows: int, least: int
) -> tuple[float, int, int]:
    """(recall, candidates, effort), none of less effort than `least`."""
    recall, candidates, effort = 0.0, 0, least
    for option_effort, option in _options(index, any(t.filter for t in truths)):
        if option_effort < least:
            continue
        # With more candidates an exact scan is no slower. Small tables are measured all the same: an
        # index that never was would be told to find nothing.
        if candidates and option > candidates and option * 8 > max(rows, 8 * K):
            break
        candidates, effort = option, option_effort
        recall = _measure(index, truths, candidates, effort)
        if recall >= (1.0 if candidates <= _FEW else goal):
            break
    return recall, candidates, effort


def _options(index: VectorIndex, filtered: bool) -> list[tuple[int, int]]:
    if index.kind == FAST_SCAN:
        least = (_FEWEST_FILTERED, _FEW) if filtered else (_FEW,)
        return [(index.efforts[0], candidates) for candidates in (*least, 200, 400, 800, 1_600, 3_200)]
    candidates = 200 if index.kind == "ivfpq" else 2 * K
    options = [(effort, candidates) for effort in index.efforts]
    if index.kind == "ivfpq":
        options += [(index.efforts[-1], more) for more in (800, 3_200)]
    return options


def _truths(base: Base, metric: Metric, library: VectorLibrary) -> Iterator[_Truth]:
    rng = np.random.default_rng(_SEED)
    chosen = rng.choice(len(base), min(QUERIES, len(base)), replace=False)
    masks = list(_filters(base, library, rng))
    for position in chosen.tolist():
        row = base.matrix[position]
        # Beside a row rather than on it: a query is seldom the copy of a row.
        offset = rng.standard_normal(len(row), np.float32)
        size = np.float32(0.1 * float(np.linalg.norm(row)) / max(float(np.linalg.norm(offset)), 1e-30))
        probe = Probe(row + size * offset, metric, library)
        goodness = probe.goodness(base.matrix, base.scale)
        for number, keep in enumerate(masks):
            eligible = goodness if keep is None else goodness[keep]
            if len(eligible):
                yield _Truth(probe, goodness, number, keep, _kth(eligible), min(K, len(eligible)))


def _kth(goodness: Floats) -> float:
    found = kth_best(goodness, K)
    return float(goodness.min()) if found == -np.inf else found


def _filters(
    base: Base, library: VectorLibrary, rng: np.random.Generator
) -> Iterator[NDArray[np.bool_] | None]:
    """No filter, two that have nothing to do with the vectors, and two that cut through them."""
    yield None
    n = len(base)
    for share in (0.5, 0.1):
        yield rng.random(n) < share
    direction: Vector = rng.standard_normal((base.matrix.shape[1],), np.float32)
    along = library.products(direction, base.matrix)
    for share in (0.5, 0.1):
        yield along > np.quantile(along, 1 - share)


def _measure(index: VectorIndex, truths: Sequence[_Truth], candidates: int, effort: int) -> float:
    """The mean recall under each filter, the worst of them."""
    shares: dict[int, list[float]] = {}
    for truth in truths:
        found = index.search(truth.probe.scaled, candidates, truth.keep, {"effort": effort})
        hits = int(np.count_nonzero(truth.goodness[found] >= truth.least - _SLACK * abs(truth.least)))
        shares.setdefault(truth.filter, []).append(min(hits, truth.count) / truth.count)
    return min((float(np.mean(found)) for found in shares.values()), default=1.0)
