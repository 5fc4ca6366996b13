"""Searches by an index that the backend built: it nominates, the core compares, and only a full page is an
answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from vectable.core.key import KeyBytes
from vectable.core.schema import Index, Serving, Table, Version
from vectable.engine.search.choose import FEW_ROWS, FEW_SHARE, FILTERED_RECALL
from vectable.engine.search.hits import Found, Hit
from vectable.engine.search.indexing import IndexedView
from vectable.engine.search.prepare import Prepared, Target
from vectable.engine.search.scan import residual_test, score_rows, with_residual
from vectable.interfaces import Backend, Pushed, View

SMALL_ROWS = 5_000
"""So few rows a database compares exactly about as fast as it asks an index."""
SHOULD_FIND = 0.99
"""Recall an index's search effort is raised to, where it can be."""
MUST_FIND = 0.9
"""An index that finds less answers nothing."""
SHALLOW, DEEP, DEEP_RECALL = 20, 1_000, 0.95
"""Beyond SHALLOW hits, recall@1,000 decides whether an index answers; beyond DEEP, none does."""
_GET = 1_000


@dataclass(frozen=True, slots=True)
class Chosen:
    """How the backend is to search. `index` None: exactly. `matching`: rows that pass what was pushed, where
    they were counted."""

    why: str
    index: Index | None = None
    effort: int = 0
    candidates: int = 0
    recall: float = 0.0
    matching: int | None = None

    @property
    def by(self) -> tuple[Index, int] | None:
        """Index and effort, as `IndexedView.explain_nearest` takes them."""
        return None if self.index is None else (self.index, self.effort)


def serving_index(table: Table, version: Version) -> tuple[Index, Serving] | None:
    """The best index the backend has over the version that may answer."""
    found = [
        (index.serving.recall, number)
        for number, index in enumerate(table.indexes)
        if index.version == version.id and index.serving is not None and index.serving.recall >= MUST_FIND
    ]
    if not found:
        return None
    index = table.indexes[max(found)[1]]
    return None if index.serving is None else (index, index.serving)


def outgrown(table: Table, version: Version, searchable: int, backend: Backend) -> list[Index]:
    """Indexes that were measured over far fewer rows than there are now."""
    return [
        index
        for index in table.indexes
        if index.version == version.id
        and index.serving is not None
        and searchable > 2 * index.serving.rows + SMALL_ROWS
        and builds(backend, index)
    ]


async def choose(
    view: View, pushed: Pushed, prepared: Prepared, target: Target, k: int, searchable: int, behind: bool
) -> Chosen:
    """By what is built and measured, the number of rows, and how many of them pass the filter. `behind`: only
    what comes after a cursor is wanted."""
    held = serving_index(prepared.table, target.version)
    why = _why_exact(target, behind, held is not None, k, searchable)
    if why is not None or held is None:
        return Chosen(why or "")
    index, serving = held
    if k - 1 > SHALLOW and serving.deep < DEEP_RECALL:
        return Chosen(f"{k - 1:,} hits are wanted, and recall@1000 was measured as {serving.deep:.3f}")
    filtered, matching = not prepared.compiled.everything, searchable
    wanted = nominations(serving, k, filtered)
    if filtered:
        if serving.filtered < FILTERED_RECALL:
            return Chosen(f"recall of the {index.method} under filters was {serving.filtered:.3f}")
        enough = max(int(FEW_ROWS + FEW_SHARE * searchable), 4 * wanted) + 1
        matching = await cast(IndexedView, view).count_up_to(pushed, enough)
        if matching <= FEW_ROWS + FEW_SHARE * searchable:
            return Chosen(f"the filter keeps few rows: {matching:,}", matching=matching)
    if 4 * wanted > matching:
        return Chosen(f"{wanted:,} candidates of {matching:,} rows are no shortcut")
    recall = min(serving.recall, serving.filtered) if filtered else serving.recall
    recall = min(recall, serving.deep) if k - 1 > SHALLOW else recall
    why = f"more than {SMALL_ROWS:,} rows, and the database has an {index.method} index"
    effort = serving.filtered_effort if filtered else serving.effort
    return Chosen(why, index, effort, wanted, recall)


def _why_exact(target: Target, behind: bool, built: bool, k: int, searchable: int) -> str | None:
    if not built:
        return "no index in the database is ready"
    if behind:
        return "pages behind a cursor are exact"
    if target.exact:
        return "the query asks for an exact answer"
    if target.column.index == "none":
        return "the column is declared without an index"
    if searchable <= SMALL_ROWS:
        return f"up to {SMALL_ROWS:,} rows the database compares all"
    return f"more than {DEEP:,} hits are found exactly" if k > DEEP + 1 else None


def nominations(serving: Serving, k: int, filtered: bool) -> int:
    """How many candidates to compare: as measured for 10 hits, and in proportion beyond 20."""
    wanted = serving.filtered_candidates if filtered else serving.candidates
    return max(round(wanted * max(1.0, k / 20)), k)


async def nominated_hits(
    view: View, pushed: Pushed, prepared: Prepared, target: Target, k: int, chosen: Chosen
) -> Found | None:
    """The best `k` of what the index nominates; None when fewer of them match, for others may."""
    if chosen.index is None:
        return None
    keys = await cast(IndexedView, view).nominate(
        chosen.index, chosen.effort, target.vector, chosen.candidates, pushed
    )
    hits = await _compared(view, keys, pushed, prepared, target)
    return None if len(hits) < k else Found(hits[:k], len(keys))


async def _compared(
    view: View, keys: Sequence[KeyBytes], pushed: Pushed, prepared: Prepared, target: Target
) -> list[Hit]:
    selection, test = prepared.compiled.selection, residual_test(pushed.residual)
    columns = with_residual(selection.columns, pushed.residual)
    versions = tuple(dict.fromkeys([*selection.versions, target.version.id]))
    hits: list[Hit] = []
    for at in range(0, len(keys), _GET):
        batch = await view.get(keys[at : at + _GET], columns, versions)
        found = score_rows(batch, test(batch), target)
        hits += [
            Hit(batch.keys[i], score, apart, batch, i)
            for i, score, apart in zip(found.rows, found.scores, found.distances, strict=True)
        ]
    hits.sort(key=lambda hit: (-hit.score, hit.key))
    return hits


def builds(backend: Backend, index: Index) -> bool:
    """Whether the backend builds this index; others are built over resident rows."""
    return index.type == "vector" and index.method in backend.capabilities.index_kinds
