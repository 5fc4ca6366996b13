"""Hypothesis strategies for rows and filters of `samples.every_type_table`."""

from __future__ import annotations

import datetime as dt
from typing import Any

from hypothesis import strategies as st

from vectable.core.cell import CELL_STATES
from vectable.core.predicate import OPERATORS, Combination, Predicate, bind, not_, parse_filter
from vectable.core.schema import Table
from vectable.testing.samples import (
    FLOAT_EDGES,
    HOSTILE_STRINGS,
    INT64_EDGES,
    JSON_SAMPLES,
    MOMENT_EDGES,
)

TEXT = st.one_of(
    st.sampled_from(HOSTILE_STRINGS),
    st.text("abAB%_\\'\"éÉ", max_size=4),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6),
)
IDS = TEXT.filter(lambda text: len(text) < 100)
"""Keys have a limit that texts do not have."""
INTS = st.one_of(st.sampled_from(INT64_EDGES), st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))
FLOATS = st.one_of(
    st.sampled_from(FLOAT_EDGES),
    st.integers(-3, 3).map(float),
    st.floats(allow_nan=False, allow_infinity=False),
)
MOMENTS = st.one_of(
    st.sampled_from(MOMENT_EDGES), st.datetimes(timezones=st.just(dt.UTC)), st.sampled_from(MOMENT_EDGES[1:3])
)
JSON = st.one_of(
    st.sampled_from(JSON_SAMPLES),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-3, 3), INTS, FLOATS, TEXT),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["stars", "tags", "ok", "a.b", 'quo"te', ""]), inner, max_size=3),
        ),
        max_leaves=5,
    ),
)
_NULLS = ("is null", "is not null")
_EQUALITY = ("=", "!=", "in", "not in")
_ORDERED = (*_EQUALITY, "<", "<=", ">", ">=", "between", *_NULLS)
_TEXTUAL = ("like", "ilike", "starts_with")
_SUITABLE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("stars", "rating", "seen", "größe"), _ORDERED),
    **dict.fromkeys(("tags", "sizes", "weights"), (*_EQUALITY, "contains", *_NULLS)),
    "ok": (*_EQUALITY, *_NULLS),
    "picture": _NULLS,
}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "title": TEXT,
    "stars": INTS,
    "rating": FLOATS,
    "ok": st.booleans(),
    "seen": MOMENTS,
    "meta": JSON,
    "tags": st.lists(TEXT, max_size=3),
    "sizes": st.lists(INTS, max_size=3),
    "weights": st.lists(FLOATS, max_size=3),
    "picture": st.binary(min_size=1, max_size=8),
    "order": TEXT,
    "größe": INTS,
}
PATHS = (
    "meta.stars",
    "meta.tags",
    "meta.tags[0]",
    'meta["a.b"]["c d"][1].e',
    'meta["quo\\"te"]',
    'meta[""]',
    "meta[1][0]",
    "meta.ok",
    "meta.name",
    "meta.é",
)


def rows(max_size: int = 8) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows with distinct ids; any value may be null."""
    row = st.fixed_dictionaries(
        {"id": IDS, **{name: st.one_of(st.none(), values) for name, values in VALUES.items()}}
    )
    return st.lists(row, max_size=max_size, unique_by=lambda found: found["id"])


@st.composite
def clauses(draw: st.DrawFn, table: Table) -> Predicate:
    """One clause that binds to `table`, on any column, path or state."""
    names = [*VALUES, "id", *PATHS, *(c.name for c in table.vector_columns)]
    names += [f"{c.name}.state" for c in table.vector_columns]
    column = draw(st.sampled_from(names))
    if column.endswith(".state"):
        suitable: tuple[str, ...] = _EQUALITY
    elif column in {c.name for c in table.vector_columns}:
        suitable = _NULLS
    else:
        suitable = _SUITABLE.get(column, OPERATORS)
    operator = draw(st.sampled_from(suitable))
    value = _literals(column, operator)
    if operator in ("in", "not in"):
        literal: Any = draw(st.lists(value, max_size=4))
    elif operator == "between":
        literal = [draw(value), draw(value)]
    else:
        literal = None if operator in ("is null", "is not null") else draw(value)
    clause = {"column": column, "operator": operator, "value": literal}
    return bind(parse_filter({k: v for k, v in clause.items() if v is not None}), table)


def _literals(column: str, operator: str) -> st.SearchStrategy[Any]:
    if column.endswith(".state"):
        return st.sampled_from(CELL_STATES)
    if operator in _TEXTUAL:
        return TEXT if operator == "starts_with" else TEXT.map(_whole_pattern)
    if column.startswith("meta"):
        if operator in ("<", "<=", ">", ">=", "between"):
            return st.one_of(TEXT, INTS, FLOATS)
        return JSON.filter(lambda value: value is not None)
    if operator == "contains" and column in ("tags", "sizes", "weights"):
        return {"tags": TEXT, "sizes": INTS, "weights": FLOATS}[column]
    return VALUES.get(column, TEXT)


def _whole_pattern(text: str) -> str:
    """`text` as a pattern that does not end with its escape character."""
    trailing = len(text) - len(text.rstrip("\\"))
    return text + "\\" if trailing % 2 else text


def predicates(table: Table, max_leaves: int = 5) -> st.SearchStrategy[Predicate]:
    """Bound filters over `table`: clauses, and combinations and complements of them."""
    nested = st.recursive(
        clauses(table),
        lambda inner: st.one_of(
            st.builds(
                lambda op, args: Combination(op=op, args=tuple(args)),
                st.sampled_from(["and", "or"]),
                st.lists(inner, max_size=3),
            ),
            inner.map(not_),
        ),
        max_leaves=max_leaves,
    )
    return nested.map(lambda where: bind(where, table))
