"""What a filter means, in plain Python: the oracle everything faster is measured against.

A clause sees one value: of the column's Python type, None for null, MISSING for a JSON path that leads
nowhere. Null and missing satisfy nothing but `is null` (null only) and complements. Values of different kinds
are unequal and have no order.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, Protocol

from vectable.core.predicate import Clause, Negation, PathStep, Predicate, frozen_value, split_name
from vectable.core.predicate.pattern import fold_case, like_test
from vectable.errors import UnknownColumn, did_you_mean

Test = Callable[[Any], bool]


class _Missing(Enum):
    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing.MISSING
"""What a JSON path yields where it leads nowhere: neither null nor not null."""


def extract(value: Any, path: Sequence[PathStep]) -> Any:
    """The part of a JSON value at `path`; MISSING where there is none (a null has no parts)."""
    for step in path:
        if isinstance(step, int):
            if not isinstance(value, (list, tuple)) or step >= len(value):
                return MISSING
        elif not isinstance(value, Mapping) or step not in value:
            return MISSING
        value = value[step]
    return value


def value_of(name: str, row: Mapping[str, Any]) -> Any:
    """The value of a column, a JSON path or (under its own name, "emb.state") a cell's state in `row`.
    Raises UnknownColumn when `row` lacks the column."""
    if name in row:
        return row[name]
    column, path = split_name(name)
    if column not in row or not path:
        raise UnknownColumn(f"the row has no column {name!r}", hint=did_you_mean(column, row, "columns"))
    return extract(row[column], path)


def matches(predicate: Predicate, row: Mapping[str, Any]) -> bool:
    """Whether `predicate` holds for `row`: column name → Python value; states under "emb.state"; a vector
    column is null when its value is None. Raises UnknownColumn when `row` lacks a column."""
    return row_test(predicate)(row)


def row_test(predicate: Predicate) -> Callable[[Mapping[str, Any]], bool]:
    """`matches` for many rows: literals are prepared once."""
    if isinstance(predicate, Clause):
        name, test = predicate.column, clause_test(predicate)
        return lambda row: test(value_of(name, row))
    if isinstance(predicate, Negation):
        inner = row_test(predicate.arg)
        return lambda row: not inner(row)
    holds = all if predicate.op == "and" else any
    tests = [row_test(arg) for arg in predicate.args]
    return lambda row: holds(test(row) for test in tests)


def clause_test(clause: Clause) -> Test:
    """The test a clause puts to one value of its column, prepared once."""
    return _TESTS[clause.operator](clause.value)


def _is_there(value: Any) -> bool:
    return value is not None and value is not MISSING


def _equal(wanted: Any) -> Test:
    want = frozen_value(wanted)
    return lambda value: bool(frozen_value(value) == want)


def _unequal(wanted: Any) -> Test:
    want = frozen_value(wanted)
    return lambda value: _is_there(value) and bool(frozen_value(value) != want)


def _among(wanted: Sequence[Any]) -> Test:
    want = frozenset(map(frozen_value, wanted))
    return lambda value: frozen_value(value) in want


def _not_among(wanted: Sequence[Any]) -> Test:
    want = frozenset(map(frozen_value, wanted))
    return lambda value: _is_there(value) and frozen_value(value) not in want


def _kind(value: Any) -> type | None:
    """Values of one kind have an order: numbers (bools are none), texts, timestamps."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float
    if isinstance(value, str):
        return str
    return dt.datetime if isinstance(value, dt.datetime) else None


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any], Test]:
    def prepare(wanted: Any) -> Test:
        kind = _kind(wanted)
        return lambda value: kind is not None and _kind(value) is kind and compare(value, wanted)

    return prepare


def _between(ends: Sequence[Any]) -> Test:
    low, high = ends
    above, below = _ordered(lambda a, b: bool(a >= b))(low), _ordered(lambda a, b: bool(a <= b))(high)
    return lambda value: above(value) and below(value)


def _like(pattern: str) -> Test:
    test = like_test(pattern)
    return lambda value: isinstance(value, str) and test(value)


def _ilike(pattern: str) -> Test:
    test = like_test(fold_case(pattern))
    return lambda value: isinstance(value, str) and test(fold_case(value))


def _starts_with(prefix: str) -> Test:
    return lambda value: isinstance(value, str) and value.startswith(prefix)


def _contains(wanted: Any) -> Test:
    want = frozen_value(wanted)

    def test(value: Any) -> bool:
        if isinstance(value, str):
            return isinstance(wanted, str) and wanted in value
        return isinstance(value, (list, tuple)) and any(frozen_value(v) == want for v in value)

    return test


_TESTS: dict[str, Callable[[Any], Test]] = {
    "=": _equal,
    "!=": _unequal,
    "<": _ordered(lambda a, b: bool(a < b)),
    "<=": _ordered(lambda a, b: bool(a <= b)),
    ">": _ordered(lambda a, b: bool(a > b)),
    ">=": _ordered(lambda a, b: bool(a >= b)),
    "in": _among,
    "not in": _not_among,
    "between": _between,
    "like": _like,
    "ilike": _ilike,
    "starts_with": _starts_with,
    "contains": _contains,
    "is null": lambda _: lambda value: value is None,
    "is not null": lambda _: _is_there,
}


class Term(Protocol):
    """A sort term, as `core.query.OrderTerm`."""

    @property
    def descending(self) -> bool: ...


class _Descending:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Descending) -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and bool(self.value == other.value)

    __hash__ = None  # type: ignore[assignment]


def order_key(values: Sequence[Any], terms: Sequence[Term], key: bytes) -> tuple[Any, ...]:
    """A sort key for a row whose sort terms have `values` and whose encoded key is `key`. Ascending or
    descending, nulls (and missing) are last; equal rows go by key ascending. Any JSON values compare: bools
    before numbers before texts before the rest."""
    parts: list[Any] = []
    for value, term in zip(values, terms, strict=True):
        if not _is_there(value):
            parts.append((1,))
        else:
            rank = _rank(value)
            parts.append((0, _Descending(rank) if term.descending else rank))
    return (*parts, key)


def _rank(value: Any) -> tuple[Any, ...]:
    if value is None:
        return (0,)
    if isinstance(value, bool):
        return (1, value)
    if isinstance(value, (list, tuple)):
        return (6, [_rank(v) for v in value])
    if isinstance(value, Mapping):
        return (7, [(k, _rank(value[k])) for k in sorted(value)])
    kinds: tuple[type | tuple[type, ...], ...] = ((int, float), str, dt.datetime, bytes)
    return (2 + next(i for i, kind in enumerate(kinds) if isinstance(value, kind)), value)
