"""Similarity searches that the backend answers, for rows that are not held in memory: by an index it has
built where one serves, else exactly."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from vectable.core.plan import Plan
from vectable.core.predicate import TRUE
from vectable.core.schema import Index, Table
from vectable.engine.search.by_index import Chosen, choose, nominated_hits, outgrown
from vectable.engine.search.cursor import Place
from vectable.engine.search.hits import Found, best_hits, collected, ordered_hits
from vectable.engine.search.indexing import IndexedView
from vectable.engine.search.page import Clock, cursor_of
from vectable.engine.search.prepare import Prepared, Target, is_empty
from vectable.engine.search.result import SearchResult
from vectable.engine.search.scan import completed
from vectable.interfaces import Backend, Pushed, View

_REMEMBERED = 256
Outgrown = Callable[[Table, Index], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of the backend: hits from `start` to `end` in order, behind `place`."""

    prepared: Prepared
    target: Target
    place: Place | None
    unlimited: bool
    backend_plan: bool
    """The backend's own account of the search is wanted, too."""


class BackendSearch:
    """Answers similarity queries of one database without resident rows."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.on_outgrown: Outgrown = lambda table, index: None
        self._counted: OrderedDict[tuple[str, int, str, bool], tuple[str, tuple[int, int]]] = OrderedDict()

    async def run(self, view: View, asked: Asked, why: str, fallbacks: list[str]) -> SearchResult:
        """One page of hits, read from `view`. `why`: the rows are not in memory."""
        clock, prepared, target = Clock(), asked.prepared, asked.target
        rows, searchable = await self._coverage(view, prepared, target)
        start, end = (0, rows) if asked.unlimited else (prepared.offset, prepared.offset + prepared.limit)
        pushed = self._backend.push(prepared.table, prepared.where)
        chosen, found = await self._found(view, asked, pushed, end + 1, searchable, fallbacks)
        clock.lap("search")
        explained = None
        if asked.backend_plan and prepared.by_score and self._backend.capabilities.index_kinds:
            k = chosen.candidates if chosen.index else end + 1
            explained = await cast(IndexedView, view).explain_nearest(
                target.version, target.vector, k, pushed, chosen.by
            )
        page = found.hits[start:end]
        plan = Plan(
            path="backend" if chosen.index is None else "backend-index",
            why="; ".join(filter(None, (why, chosen.why))) or "rows are not held in memory",
            exact=chosen.index is None,
            column=target.column.name,
            metric=target.version.metric.value,
            index=None if chosen.index is None else chosen.index.method,
            recall=None if chosen.index is None else chosen.recall,
            rows_total=rows,
            rows_searchable=searchable,
            rows_matching=chosen.matching if pushed.residual is None else None,
            rows_examined=found.examined,
            candidates=None if chosen.index is None else found.examined,
            fallbacks=fallbacks,
            filter_pushed=prepared.compiled.described,
            backend_plan=explained,
            times_ms=clock.total(),
        )
        cursor: Callable[[], str] | None = None
        if len(found.hits) > end and page:
            last = page[-1]
            values = (last.score,) if prepared.by_score else last.values
            cursor = cursor_of(prepared, values, last.key, view.mark)
        return SearchResult(
            [h.key for h in page],
            prepared.compiled.selection.rows(collected(page, prepared.compiled.selection)),
            [h.score for h in page],
            [h.distance for h in page],
            plan,
            view.mark,
            cursor,
            (rows, searchable),
        )

    async def _found(
        self, view: View, asked: Asked, pushed: Pushed, k: int, searchable: int, fallbacks: list[str]
    ) -> tuple[Chosen, Found]:
        prepared, target, place = asked.prepared, asked.target, asked.place
        if is_empty(prepared.where):
            return Chosen("no row can match"), Found((), 0)
        if not prepared.by_score:
            place = await completed(place, view, prepared)
            return Chosen(""), await ordered_hits(self._backend, view, prepared, k, place)
        chosen = Chosen("")
        if self._backend.capabilities.index_kinds:
            for index in outgrown(prepared.table, target.version, searchable, self._backend):
                self.on_outgrown(prepared.table, index)
            chosen = await choose(view, pushed, prepared, target, k, searchable, place is not None)
        found = await nominated_hits(view, pushed, prepared, target, k, chosen)
        if found is None:
            if chosen.index is not None:
                fallbacks.append(f"{chosen.index.method} in the database: fewer hits than may exist")
                chosen = Chosen("the index cannot answer this query")
            found = await best_hits(self._backend, view, prepared, k, place)
        return chosen, found

    async def _coverage(self, view: View, prepared: Prepared, target: Target) -> tuple[int, int]:
        """(rows, rows with a servable vector), counted once for each state of the table."""
        key = (prepared.table.id, prepared.table.generation, target.version.id, target.stale)
        mark, known = self._counted.get(key, ("", (0, 0)))
        # What others own may have changed untold.
        steady = self._backend.capabilities.snapshot != "none" and prepared.table.foreign is None
        if steady and mark == view.mark.value:
            return known
        rows = await view.count(self._backend.push(prepared.table, TRUE))
        states = await view.cell_states(target.version.id)
        found = rows, states["ready"] + (states["stale"] if target.stale else 0)
        self._counted[key] = view.mark.value, found
        while len(self._counted) > _REMEMBERED:
            self._counted.popitem(last=False)
        return found
