"""How a similarity search over resident rows is answered: by size, by the filter's exact count, by what is
built. Approximate answers are given only as full pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

import numpy as np

from vectable.core.plan import Path
from vectable.core.schema import Metric
from vectable.engine.resident.coded import Codes
from vectable.engine.resident.probe import Probe
from vectable.engine.resident.resident import FAST_SCAN, Structure
from vectable.engine.resident.snapshot import Kept, Mask, Positions, Snapshot
from vectable.engine.search.prepare import Target
from vectable.engine.search.rank import After, Ranked, best, best_of, pool_of

FLAT_ROWS = 20_000
"""Up to so many rows every search is exact."""
FEW_ROWS, FEW_SHARE = 2_000, 0.04
"""A filter that keeps at most FEW_ROWS + FEW_SHARE · rows is answered exactly over the rows it keeps."""
SPARE = 12
"""Nominations by codes beyond 2 k: enough, on text embeddings, for the certificate to hold."""
FILTERED_RECALL = 0.9
"""An index that finds less than this under filters answers none."""


@dataclass(frozen=True, slots=True)
class Eligible:
    """The rows a search may return: `mask` None means all positions. `filtered`: by the query's filter."""

    mask: Mask | None
    count: int
    filtered: bool
    kept: Kept | None = None
    """What the snapshot remembers of the filter, where it evaluated it."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is built over the rows, and (structure, digest of its base) of what was measured and refused."""

    structures: Mapping[str, Structure]
    refused: Set[tuple[str, str]]
    codes: Codes | None = None


@dataclass(slots=True)
class Answer:
    """Hits, and how they were found."""

    ranked: Ranked
    path: Path
    why: str
    exact: bool
    structure: Structure | None = None
    recall: float | None = None
    candidates: int | None = None
    fallbacks: list[str] = field(default_factory=list)


def search_resident(
    snapshot: Snapshot,
    held: Held,
    target: Target,
    probe: Probe,
    eligible: Eligible,
    k: int,
    after: After | None = None,
) -> Answer:
    """The best k eligible rows, by the cheapest way that keeps the contract."""
    fallbacks: list[str] = []
    few = eligible.filtered and eligible.count <= FEW_ROWS + FEW_SHARE * snapshot.size
    own = None if eligible.kept is None or after is not None else eligible.kept.codes
    if own is not None:
        held_apart = "the rows this filter keeps are held as codes"
        certified = _certified(snapshot, own, target, probe, eligible, k, held_apart)
        if certified is not None:
            return certified
    why = _why_exact(snapshot, target, few, after)
    if why is None:
        structure = _usable(snapshot, held.structures)
        if structure is None:
            why = _why_none(snapshot, held)
        else:
            answer = _approximate(snapshot, structure, target, probe, eligible, k, fallbacks)
            if answer is not None:
                return answer
            why = "the index cannot answer this query"
    certified = _certified(snapshot, held.codes, target, probe, eligible, k, why) if after is None else None
    if certified is not None:
        certified.fallbacks[:0] = fallbacks
        return certified
    pool = pool_of(snapshot, probe, eligible.mask, eligible.count, eligible.kept)
    ranked = best(snapshot, probe, pool, k, target.threshold, after)
    path: Path = "flat" if pool.positions is None else "exact-ids"
    return Answer(ranked, path, why, True, fallbacks=fallbacks)


def _certified(
    snapshot: Snapshot,
    codes: Codes | None,
    target: Target,
    probe: Probe,
    eligible: Eligible,
    k: int,
    why: str,
) -> Answer | None:
    """The exact answer by 8-bit codes; None where they cannot prove it, or are no shortcut."""
    if codes is None or codes.digest != snapshot.base.digest or not codes.worthwhile:
        return None
    wanted = SPARE + 2 * k
    if 8 * wanted > eligible.count:
        return None
    if codes.positions is not None:
        nominated, unseen = codes.scan.search(probe.scaled, wanted)
        nominated = codes.positions[nominated]
    elif 2 * eligible.count < snapshot.size:
        return None
    else:
        keep = None if eligible.mask is None else eligible.mask[: len(snapshot.base)]
        nominated, unseen = codes.scan.search(probe.scaled, wanted, keep)
    positions = _with_delta(nominated, snapshot, eligible)
    ranked = best_of(snapshot, probe, positions, k, target.threshold)
    codes.tried += 1
    if not _proved(probe, ranked, k, target.threshold, unseen):
        codes.failed += 1
        return None
    examined = snapshot.size if codes.positions is None else eligible.count
    ranked = replace(ranked, examined=examined)
    return Answer(ranked, "certified-scan", why, True, candidates=len(nominated))


def _proved(probe: Probe, ranked: Ranked, k: int, threshold: float | None, unseen: float) -> bool:
    """No row of at most that goodness can be among the best k."""
    if unseen == -math.inf:
        return True
    if len(ranked.keys) < k:
        return threshold is not None and probe.exact_goodness(threshold) > unseen
    # The distance tells euclidean rows apart better than the score made from it.
    if probe.metric is not Metric.EUCLIDEAN:
        return ranked.scores[-1] > unseen
    apart = ranked.distances[-1] * (1 + 1e-9) + 1e-9
    return -apart * apart > unseen


def _why_exact(snapshot: Snapshot, target: Target, few: bool, after: After | None) -> str | None:
    """Why the search is exact; None when it may be approximate."""
    if after is not None:
        return "pages behind a cursor are exact"
    if target.exact:
        return "the query asks for an exact answer"
    if target.column.index == "none":
        return "the column is declared without an index"
    if few:
        return "the filter keeps few rows"
    if snapshot.searchable <= FLAT_ROWS:
        return f"up to {FLAT_ROWS:,} rows every search is exact"
    return None


def _why_none(snapshot: Snapshot, held: Held) -> str:
    if snapshot.base.matrix.shape[1] % 2:
        return "the fast scan needs an even number of dimensions"
    if (FAST_SCAN, snapshot.base.digest) in held.refused:
        return "the fast scan was measured on these rows and does not find enough, or does not fit in memory"
    return "no index over these rows is ready yet"


def _usable(snapshot: Snapshot, structures: Mapping[str, Structure]) -> Structure | None:
    """An index somebody asked for, else the fast scan; only one over this very base."""
    found = [
        (name == FAST_SCAN, -s.recall, name)
        for name, s in structures.items()
        if s.digest == snapshot.base.digest
    ]
    return structures[min(found)[2]] if found else None


def _approximate(
    snapshot: Snapshot,
    structure: Structure,
    target: Target,
    probe: Probe,
    eligible: Eligible,
    k: int,
    fallbacks: list[str],
) -> Answer | None:
    name = structure.index.kind
    if eligible.filtered and structure.filtered < FILTERED_RECALL:
        fallbacks.append(f"{name}: recall under filters was measured as {structure.filtered:.3f}")
        return None
    wanted = nominations(structure, k, eligible.filtered)
    if 4 * wanted > eligible.count:
        fallbacks.append(f"{name}: {wanted} candidates of {eligible.count} rows are no shortcut")
        return None
    count = len(snapshot.base)
    keep = None if eligible.mask is None else eligible.mask[:count]
    nominated = structure.index.search(probe.scaled, wanted, keep, {"effort": structure.effort})
    positions = _with_delta(nominated, snapshot, eligible)
    ranked = best_of(snapshot, probe, positions, k, target.threshold)
    if len(ranked.keys) < min(k, eligible.count):
        fallbacks.append(f"{name}: {len(ranked.keys)} hits where {min(k, eligible.count)} may exist")
        return None
    fast = name == FAST_SCAN
    return Answer(
        ranked,
        "fast-scan" if fast else "index",
        f"more than {FLAT_ROWS:,} rows, and "
        + ("the fast scan is ready" if fast else f"there is an {name} index"),
        False,
        structure,
        min(structure.recall, structure.filtered) if eligible.filtered else structure.recall,
        len(nominated),
        fallbacks,
    )


def nominations(structure: Structure, k: int, filtered: bool) -> int:
    """How many candidates to re-rank: as measured for k = 10, and in proportion beyond 20."""
    wanted = structure.filtered_candidates if filtered else structure.candidates
    return max(round(wanted * max(1.0, k / 20)), k)


def _with_delta(nominated: Positions, snapshot: Snapshot, eligible: Eligible) -> Positions:
    """The candidates, and every eligible row that is newer than the index."""
    if not snapshot.delta.length:
        return nominated
    count = len(snapshot.base)
    if eligible.mask is None:
        newer = np.arange(count, snapshot.size)
    else:
        newer = count + np.flatnonzero(eligible.mask[count:])
    return np.concatenate([nominated, newer])
