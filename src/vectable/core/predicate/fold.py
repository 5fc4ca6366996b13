"""Comparisons of numbers, exact whatever the literal: clauses over int64 and float64 columns are rewritten
so that their literals are of the column's own type, with the same meaning for every value it can hold."""

from __future__ import annotations

import math
from collections.abc import Callable

from vectable.core.predicate.nodes import FALSE, Clause, Operator, Predicate

Number = int | float
INT_MIN = -(1 << 63)
INT_MAX = (1 << 63) - 1
_CLOSED: dict[str, Operator] = {"<": "<=", ">": ">="}


def fold_number(clause: Clause, integer: bool) -> Predicate:
    """`clause`, whose literals are finite numbers, rewritten for an int64 (`integer`) or float64 column: a
    clause with literals of exactly that type, `is not null` where every number passes, FALSE where none."""
    exact = _exact_int if integer else _exact_float
    operator, value = clause.operator, clause.value
    if operator in ("in", "not in"):
        return _fold_in(clause, exact)
    if operator == "between":
        return _fold_between(clause, integer)
    literal = exact(value)
    if literal is not None:
        return Clause(column=clause.column, operator=operator, value=literal)
    if operator == "=":
        return FALSE
    if operator == "!=":
        return Clause(column=clause.column, operator="is not null")
    low = operator in (">", ">=")
    bound = (_ceil if low else _floor)(value, integer)
    if bound is None:
        return FALSE
    return Clause(column=clause.column, operator=_CLOSED.get(operator, operator), value=bound)


def _fold_in(clause: Clause, exact: Callable[[Number], Number | None]) -> Predicate:
    possible = tuple(dict.fromkeys(e for e in map(exact, clause.value) if e is not None))
    if possible:
        return Clause(column=clause.column, operator=clause.operator, value=possible)
    return FALSE if clause.operator == "in" else Clause(column=clause.column, operator="is not null")


def _fold_between(clause: Clause, integer: bool) -> Predicate:
    low, high = _ceil(clause.value[0], integer), _floor(clause.value[1], integer)
    if low is None or high is None or low > high:
        return FALSE
    return Clause(column=clause.column, operator="between", value=(low, high))


def _exact_int(value: Number) -> int | None:
    whole = int(value)
    return whole if whole == value and INT_MIN <= whole <= INT_MAX else None


def _exact_float(value: Number) -> float | None:
    try:
        near = float(value)
    except OverflowError:
        return None
    return near if near == value else None


def _ceil(value: Number, integer: bool) -> Number | None:
    """The least number of the column's type that is >= `value`; None where there is none."""
    if integer:
        whole = max(math.ceil(value), INT_MIN)
        return whole if whole <= INT_MAX else None
    return _negated(_floor_float(-value))


def _floor(value: Number, integer: bool) -> Number | None:
    """The greatest number of the column's type that is <= `value`; None where there is none."""
    if integer:
        whole = min(math.floor(value), INT_MAX)
        return whole if whole >= INT_MIN else None
    return _floor_float(value)


def _negated(value: float | None) -> float | None:
    return None if value is None else -value


def _floor_float(value: Number) -> float | None:
    try:
        near = float(value)
    except OverflowError:
        near = math.inf if value > 0 else -math.inf
    if near > value:
        near = math.nextafter(near, -math.inf)
    return near if near > -math.inf else None
