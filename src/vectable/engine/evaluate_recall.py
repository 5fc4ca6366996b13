"""How much of the truth an index finds: measured on the table's own rows, overall and under filters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vectable.core.schema import Metric
from vectable.engine.resident.base import Base
from vectable.engine.resident.resident import FAST_SCAN
from vectable.engine.search.probe import Floats, Probe
from vectable.engine.search.rank import kth_best
from vectable.interfaces import VectorIndex, VectorLibrary

QUERIES = 60
SHOULD_FIND = 0.999
"""Recall a fast scan must reach to serve."""
ASKED_FOR = 0.99
"""Recall the search effort of an index somebody asked for is raised to, where it can be."""
K = 10
_SEED = 97
_SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class Measured:
    """Recall@10 with so many candidates re-ranked exactly and that search effort."""

    recall: float
    filtered: float
    candidates: int
    effort: int


@dataclass(frozen=True, slots=True)
class _Truth:
    probe: Probe
    goodness: Floats
    keep: NDArray[np.bool_] | None
    least: float
    """Goodness of the k-th nearest eligible row."""
    count: int


def tune(base: Base, metric: Metric, library: VectorLibrary, index: VectorIndex) -> Measured:
    """The least candidates and effort whose recall reaches the goal; when none does, the best there is."""
    truths = list(_truths(base, metric, library))
    goal = SHOULD_FIND if index.kind == FAST_SCAN else ASKED_FOR
    measured = Measured(0.0, 0.0, K, index.efforts[0])
    for effort, candidates in _options(index):
        if candidates * 8 > max(len(base), 8 * K):
            break
        measured = _measure(index, truths, candidates, effort)
        if min(measured.recall, measured.filtered) >= goal:
            break
    return measured


def _options(index: VectorIndex) -> list[tuple[int, int]]:
    if index.kind == FAST_SCAN:
        return [(index.efforts[0], candidates) for candidates in (100, 200, 400, 800, 1_600)]
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
        offset *= np.float32(0.1 * float(np.linalg.norm(row)) / max(float(np.linalg.norm(offset)), 1e-30))
        probe = Probe(row + offset, metric, library)
        goodness = probe.goodness(base.matrix, base.scale)
        for keep in masks:
            eligible = goodness if keep is None else goodness[keep]
            if len(eligible):
                yield _Truth(probe, goodness, keep, _kth(eligible), min(K, len(eligible)))


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
    direction = rng.standard_normal(base.matrix.shape[1]).astype(np.float32)
    along = library.products(direction, base.matrix)
    for share in (0.5, 0.1):
        yield along > np.quantile(along, 1 - share)


def _measure(index: VectorIndex, truths: Sequence[_Truth], candidates: int, effort: int) -> Measured:
    plain: list[float] = []
    filtered: dict[int, list[float]] = {}
    for truth in truths:
        wanted = candidates if truth.keep is None else 2 * candidates
        found = index.search(truth.probe.scaled, wanted, truth.keep, {"effort": effort})
        hits = int(np.count_nonzero(truth.goodness[found] >= truth.least - _SLACK * abs(truth.least)))
        share = min(hits, truth.count) / truth.count
        if truth.keep is None:
            plain.append(share)
        else:
            filtered.setdefault(id(truth.keep), []).append(share)
    worst = min((float(np.mean(shares)) for shares in filtered.values()), default=1.0)
    return Measured(float(np.mean(plain)), worst, candidates, effort)
