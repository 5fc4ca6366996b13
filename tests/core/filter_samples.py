"""A table with every column type, and random rows and filters over it that meet often enough to matter."""

from __future__ import annotations

import datetime as dt
from typing import Any

from hypothesis import strategies as st

from vectable.core.cell import CELL_STATES
from vectable.core.predicate import Clause, Combination, Negation, Predicate
from vectable.core.schema import Column, ColumnType, Table, Version


def _table() -> Table:
    columns = [
        Column(name=name, type=ColumnType(type_), nullable=name != "id") for name, type_ in _COLUMNS.items()
    ]
    version = Version(dimensions=2)
    columns.append(Column(name="emb", type=ColumnType.VECTOR, versions=(version,), active=version.id))
    return Table(name="samples", key=(columns[0].id,), columns=tuple(columns))


_COLUMNS = {
    "id": "string",
    "title": "string",
    "stars": "int",
    "score": "float",
    "open": "bool",
    "made": "timestamp",
    "meta": "json",
    "tags": "string[]",
    "counts": "int[]",
    "weights": "float[]",
    "photo": "image",
    "order": "int",
}
TABLE = _table()

TEXTS = [
    "", "a", "A", "ab", "aba", "b", "é", "É", "e\u0301", "ß", "ẞ", "SS", "ss", "İ", "i̇", "ſ", "K", "k",
    "Σ", "ς", "σ",
    "%", "_", "\\", "a%b", "a_b", "a\\b", "100%", "'", '"', "''", "a'b", ";--", "?", "NULL", "null",
    "select", "true",
    "1", "1.0", " a", "a ", "\n", "a\nb", "\t", "\x01", "\x7f", "\ud7ff", "\ue000", "\uffff", "😀", "a😀",
    "\U0010ffff", "a\U0010ffff", "日本語", "x" * 5_000,
]  # fmt: skip
INTS = [0, 1, -1, 2, 5, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1]
FLOATS = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.1,
    0.5,
    5.5,
    1e300,
    -1e300,
    5e-324,
    2.0**53,
    2.0**63,
    -(2.0**63),
    9007199254740994.0,
]
HUGE = [2**63, -(2**63) - 1, 10**30, -(10**30), 10**400, -(10**400), 2**1024]
NUMBERS = [*INTS, *FLOATS, *HUGE]
MOMENTS = [
    dt.datetime(1, 1, 1, tzinfo=dt.UTC),
    dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, dt.UTC),
    dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
    dt.datetime(2026, 1, 31, 12, 0, 0, 1, dt.UTC),
    dt.datetime(2026, 1, 31, 12, 0, 0, 2, dt.UTC),
    dt.datetime(2026, 1, 31, 14, 0, 0, 1, dt.timezone(dt.timedelta(hours=2))),
    dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, dt.UTC),
]
PATHS = ["meta", "meta.stars", "meta.a.b", "meta.tags[0]", "meta.tags", "meta[1]", 'meta["odd.key"]']

texts = st.sampled_from(TEXTS) | st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=4)
ints = st.sampled_from(INTS) | st.integers(-(2**63), 2**63 - 1)
floats = st.sampled_from(FLOATS) | st.floats(allow_nan=False, allow_infinity=False)
numbers = st.sampled_from(NUMBERS) | ints | floats
moments = st.sampled_from(MOMENTS)
scalars = st.sampled_from([True, False, 0, 1, 1.0, 0.5, "a", "1", "", "É", 2**70, 5]) | texts
inner = st.recursive(
    st.none() | scalars,
    lambda kids: (
        st.lists(kids, max_size=3) | st.dictionaries(st.sampled_from(["stars", "a", "b"]), kids, max_size=2)
    ),
    max_leaves=6,
)
objects = st.fixed_dictionaries(
    {},
    optional={
        "stars": inner,
        "a": st.fixed_dictionaries({}, optional={"b": inner}),
        "tags": inner,
        "odd.key": inner,
    },
)
jsons = inner | objects


def utc(moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(dt.UTC)


def _row_strategy() -> st.SearchStrategy[dict[str, Any]]:
    columns = {
        "title": texts,
        "stars": ints,
        "score": floats,
        "open": st.booleans(),
        "made": moments.map(utc),
        "meta": jsons,
        "tags": st.lists(texts, max_size=3),
        "counts": st.lists(st.sampled_from([0, 1, 5, 2**63 - 1]), max_size=3),
        "weights": st.lists(st.sampled_from([0.0, 0.5, 1.0]), max_size=3),
        "photo": st.just(b"image"),
        "order": ints,
        "emb": st.just((1.0, 0.0)),
    }
    nullable: dict[str, st.SearchStrategy[Any]] = {name: st.none() | s for name, s in columns.items()}
    return st.fixed_dictionaries({**nullable, "emb.state": st.sampled_from(CELL_STATES)})


@st.composite
def rows(draw: st.DrawFn, max_size: int = 12) -> list[dict[str, Any]]:
    """Rows with ids "0", "1", …"""
    drawn = draw(st.lists(_row_strategy(), max_size=max_size))
    return [{"id": str(i), **row} for i, row in enumerate(drawn)]


_NULLS = ["is null", "is not null"]
_EQUAL = ["=", "!="]
_ORDER = ["<", "<=", ">", ">="]
_TEXTUAL = ["like", "ilike", "starts_with", "contains"]
patterns = st.lists(
    st.sampled_from(["%", "_", "a", "A", "b", "é", "É", "\\%", "\\_", "\\\\", "😀", "ab"]), max_size=6
).map("".join)


def _clauses(column: str, values: st.SearchStrategy[Any], operators: list[str]) -> st.SearchStrategy[Clause]:
    def of(operator: str) -> st.SearchStrategy[Clause]:
        if operator in _NULLS:
            wanted: st.SearchStrategy[Any] = st.none()
        elif operator in ("in", "not in"):
            wanted = st.lists(values, max_size=12).map(tuple)
        elif operator == "between":
            wanted = st.tuples(values, values)
        elif operator in ("like", "ilike"):
            wanted = patterns
        elif operator == "starts_with":
            wanted = texts
        else:
            wanted = values
        return wanted.map(lambda v: Clause(column=column, operator=operator, value=v))

    return st.sampled_from(operators).flatmap(of)


_SCALAR = [*_EQUAL, *_ORDER, "in", "not in", "between", *_NULLS]
_MEMBERS = [*_EQUAL, "in", "not in", *_NULLS]
column_clauses = st.one_of(
    _clauses("title", texts, [*_SCALAR, *_TEXTUAL]),
    _clauses("stars", numbers, _SCALAR),
    _clauses("order", numbers, _SCALAR),
    _clauses("score", numbers, _SCALAR),
    _clauses("open", st.booleans(), _MEMBERS),
    _clauses("made", moments, _SCALAR),
    _clauses("photo", st.none(), _NULLS),
    _clauses("emb", st.none(), _NULLS),
    _clauses("emb.state", st.sampled_from(CELL_STATES), [*_EQUAL, "in", "not in"]),
)
list_clauses = st.one_of(
    _clauses("tags", st.lists(texts, max_size=2), _MEMBERS),
    _clauses("tags", texts, ["contains"]),
    _clauses("counts", st.sampled_from([0, 1, 1.0, 0.5, 5, 2**70]), ["contains"]),
    _clauses("weights", st.lists(st.sampled_from([0, 1, 0.5]), max_size=2), _MEMBERS),
)
json_clauses = st.sampled_from(PATHS).flatmap(
    lambda path: st.one_of(
        _clauses(path, jsons.filter(lambda v: v is not None), [*_MEMBERS, "contains"]),
        _clauses(path, texts, [*_ORDER, "between", *_TEXTUAL]),
        _clauses(path, numbers, [*_ORDER, "between"]),
    )
)
clauses = st.one_of(column_clauses, column_clauses, list_clauses, json_clauses)


def predicates(leaves: st.SearchStrategy[Clause] = clauses) -> st.SearchStrategy[Predicate]:
    """Trees over `leaves`; literals as a caller may write them, not yet bound."""

    def grow(kids: st.SearchStrategy[Predicate]) -> st.SearchStrategy[Predicate]:
        several = st.lists(kids, max_size=3).map(tuple)
        return st.one_of(
            st.tuples(st.sampled_from(["and", "or"]), several).map(lambda p: Combination(op=p[0], args=p[1])),
            kids.map(lambda k: Negation(op="not", arg=k)),
        )

    return st.recursive(leaves, grow, max_leaves=6)
