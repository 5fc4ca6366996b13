"""A page of hits: which are wanted, what took how long, and the answer made of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.plan import Plan
from vectable.core.rows import Row
from vectable.engine.resident.snapshot import Snapshot
from vectable.engine.search.choose import Answer, Eligible
from vectable.engine.search.cursor import Place, encode_cursor
from vectable.engine.search.prepare import Prepared, Target
from vectable.engine.search.rank import After
from vectable.engine.search.result import SearchResult


class Clock:
    """Milliseconds by stage."""

    __slots__ = ("_last", "_started", "times")

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self.times: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """What has passed since the last lap was this stage's."""
        now = time.perf_counter()
        self.times[stage] = round(self.times.get(stage, 0.0) + (now - self._last) * 1e3, 4)
        self._last = now

    def total(self) -> dict[str, float]:
        """All stages and their sum."""
        self.times["total"] = round((time.perf_counter() - self._started) * 1e3, 4)
        return self.times


@dataclass(frozen=True, slots=True)
class Span:
    """Hits `start` to `end` are wanted, of the best `k`, behind `after`."""

    start: int
    end: int
    k: int
    after: After | None


def span_of(prepared: Prepared, target: Target, place: Place | None, count: int, unlimited: bool) -> Span:
    start, end = (0, count) if unlimited else (prepared.offset, prepared.offset + prepared.limit)
    after = None if place is None else After(place.values[0], place.key)
    # Of a first page without a threshold the count says whether another follows; else one hit more does.
    counted = target.threshold is None and after is None
    return Span(start, end, end if counted else end + 1, after)


def page_of(
    prepared: Prepared,
    target: Target,
    snapshot: Snapshot,
    eligible: Eligible,
    answer: Answer,
    span: Span,
    rows: list[Row],
    clock: Clock,
) -> SearchResult:
    ranked, page = answer.ranked, slice(span.start, span.end)
    keys, scores = ranked.keys[page], ranked.scores[page]
    more = span.end < (eligible.count if span.k == span.end else len(ranked.keys))
    return SearchResult(
        keys,
        rows,
        scores,
        ranked.distances[page],
        _plan(target, prepared, snapshot, eligible, answer, clock),
        snapshot.mark,
        _next(prepared, keys, scores, snapshot.mark) if more else None,
        (snapshot.rows, snapshot.searchable),
    )


def _next(
    prepared: Prepared, keys: Sequence[KeyBytes], scores: Sequence[float], mark: Mark
) -> Callable[[], str] | None:
    return cursor_of(prepared, (scores[-1],), keys[-1], mark) if keys else None


def cursor_of(prepared: Prepared, values: tuple[Any, ...], key: KeyBytes, mark: Mark) -> Callable[[], str]:
    target = prepared.target
    version = None if target is None else target.version.id
    return lambda: encode_cursor(Place(values, key, mark.value, version), prepared.fingerprint())


def _plan(
    target: Target,
    prepared: Prepared,
    snapshot: Snapshot,
    eligible: Eligible,
    answer: Answer,
    clock: Clock,
) -> Plan:
    return Plan(
        path=answer.path,
        why=answer.why,
        exact=answer.exact,
        column=target.column.name,
        metric=target.version.metric.value,
        index=None if answer.structure is None else answer.structure.index.kind,
        recall=answer.recall,
        rows_total=snapshot.rows,
        rows_searchable=snapshot.searchable,
        rows_matching=eligible.count,
        rows_examined=answer.ranked.examined,
        candidates=answer.candidates,
        fallbacks=answer.fallbacks,
        filter_pushed=prepared.compiled.described if eligible.filtered else None,
        times_ms=clock.total(),
    )
