"""A filter fitted to a table: its columns exist, its operators suit their types, its literals are final."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

from vectable.core.cell import CELL_STATES
from vectable.core.predicate.columns import Target, resolve
from vectable.core.predicate.fold import fold_number
from vectable.core.predicate.nodes import (
    FALSE,
    OPERATORS,
    TRUE,
    Clause,
    Combination,
    Negation,
    Operator,
    Predicate,
    and_,
    not_,
    or_,
)
from vectable.core.predicate.values import frozen_value, shown, utc
from vectable.core.schema import LIST_TYPES, ColumnType, Table
from vectable.errors import InvalidFilter

_NULLS: tuple[Operator, ...] = ("is null", "is not null")
_EQUALITY: tuple[Operator, ...] = ("=", "!=", "in", "not in")
_ORDERED: tuple[Operator, ...] = ("=", "!=", "<", "<=", ">", ">=", "in", "not in", "between", *_NULLS)
_ALLOWED: dict[ColumnType, tuple[Operator, ...]] = {
    ColumnType.STRING: OPERATORS,
    ColumnType.JSON: OPERATORS,
    ColumnType.INT: _ORDERED,
    ColumnType.FLOAT: _ORDERED,
    ColumnType.TIMESTAMP: _ORDERED,
    ColumnType.BOOL: (*_EQUALITY, *_NULLS),
    ColumnType.IMAGE: _NULLS,
    ColumnType.VECTOR: _NULLS,
    **dict.fromkeys(LIST_TYPES, (*_EQUALITY, "contains", *_NULLS)),
}
_EXCESS_DIGITS = re.compile(r"[.,]\d{7}")
_COMPARED = frozenset({"<", "<=", ">", ">=", "between"})


def bind(predicate: Predicate, table: Table) -> Predicate:
    """`predicate` (from `parse_filter`) fitted to `table`: column names in their one spelling, literals of
    the column's final Python type (timestamps as UTC datetimes, numbers as int or float like the column),
    clauses that cannot hold or always hold folded. Binding again changes nothing.

    Raises UnknownColumn (did you mean …), InvalidFilter for an operator or a value that does not fit."""
    if isinstance(predicate, Clause):
        return _bind_clause(predicate, resolve(predicate.column, table))
    if isinstance(predicate, Negation):
        return _complement(bind(predicate.arg, table))
    if not isinstance(predicate, Combination):
        raise InvalidFilter(f"a {type(predicate).__name__} is not a resolved filter", hint="use parse_filter")
    every = predicate.op == "and"
    absorbing, neutral = (FALSE, TRUE) if every else (TRUE, FALSE)
    args = [bind(arg, table) for arg in predicate.args]
    if any(a == absorbing for a in args):
        return absorbing
    return (and_ if every else or_)(a for a in args if a != neutral)


def _complement(arg: Predicate) -> Predicate:
    if arg == TRUE:
        return FALSE
    return TRUE if arg == FALSE else not_(arg)


def _bind_clause(clause: Clause, target: Target) -> Predicate:
    name, operator = target.name, clause.operator
    allowed = _EQUALITY if target.state else _ALLOWED[target.type]
    if operator not in allowed:
        kind = "a cell's state" if target.state else f"{target.type.value} values"
        raise InvalidFilter(
            f"{name!r}: {operator!r} does not work on {kind}", hint=f"use {', '.join(allowed)}"
        )
    if operator in _NULLS:
        return Clause(column=name, operator=operator)
    coerce = _coercion(target, operator)
    if operator in ("in", "not in", "between"):
        value: Any = tuple(coerce(v, name) for v in clause.value)
    else:
        value = coerce(clause.value, name)
    return _folded(Clause(column=name, operator=operator, value=value), target)


def _folded(clause: Clause, target: Target) -> Predicate:
    if target.type in (ColumnType.INT, ColumnType.FLOAT):
        return fold_number(clause, target.type is ColumnType.INT)
    if clause.operator in ("in", "not in"):
        distinct = tuple({frozen_value(v): v for v in clause.value}.values())
        if distinct:
            return Clause(column=clause.column, operator=clause.operator, value=distinct)
        if clause.operator == "in":
            return FALSE
        return TRUE if target.state else Clause(column=clause.column, operator="is not null")
    if clause.operator == "between" and _holds_nothing(*clause.value):
        return FALSE
    return clause


def _holds_nothing(low: Any, high: Any) -> bool:
    """Whether no value lies between: the ends are of different kinds (JSON columns take both), or crossed."""
    return isinstance(low, str) is not isinstance(high, str) or bool(low > high)


_Coerce = Callable[[Any, str], Any]


def _coercion(target: Target, operator: Operator) -> _Coerce:
    if target.state:
        return _state
    if target.type is ColumnType.JSON:
        return _json_ordered if operator in _COMPARED else _json
    if target.type in LIST_TYPES:
        element = _BY_TYPE[LIST_TYPES[target.type]]
        return element if operator == "contains" else _list_of(element)
    return _BY_TYPE[target.type]


def _wrong(value: Any, name: str, wanted: str) -> InvalidFilter:
    return InvalidFilter(f"{name!r} is compared with {shown(value)}", hint=f"{name!r} takes {wanted}")


def _string(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _wrong(value, name, "a string")
    return value


def _number(value: Any, name: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(value, name, "a number")
    return value


def _bool(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(value, name, "true or false")
    return value


def _timestamp(value: Any, name: str) -> dt.datetime:
    if isinstance(value, str):
        value = _parsed_moment(value, name)
    if not isinstance(value, dt.datetime):
        raise _wrong(value, name, "a timestamp with a time zone, e.g. 2026-01-31T12:00:00Z")
    if value.tzinfo is None:
        raise InvalidFilter(
            f"{name!r}: {value.isoformat()} has no time zone", hint="write e.g. 2026-01-31T12:00:00Z"
        )
    return utc(value, f"the value for {name!r}")


def _parsed_moment(text: str, name: str) -> dt.datetime:
    if _EXCESS_DIGITS.search(text):
        raise _wrong(text, name, "a timestamp to the microsecond")
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        raise _wrong(text, name, "a timestamp with a time zone, e.g. 2026-01-31T12:00:00Z") from None


def _state(value: Any, name: str) -> str:
    if value not in CELL_STATES:
        raise _wrong(value, name, "one of " + ", ".join(CELL_STATES))
    return str(value)


def _json(value: Any, name: str) -> Any:
    if _holds_moment(value):
        raise _wrong(value, name, "a JSON value (write timestamps as the text they are stored as)")
    return value


def _holds_moment(value: Any) -> bool:
    if isinstance(value, list):
        return any(_holds_moment(v) for v in value)
    if isinstance(value, dict):
        return any(_holds_moment(v) for v in value.values())
    return isinstance(value, dt.datetime)


def _json_ordered(value: Any, name: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _wrong(value, name, "a number or a string where order matters")
    return value


def _list_of(element: _Coerce) -> _Coerce:
    def coerce(value: Any, name: str) -> list[Any]:
        if not isinstance(value, list):
            raise _wrong(value, name, "a list (for one member, use contains)")
        return [element(v, name) for v in value]

    return coerce


_BY_TYPE: dict[ColumnType, _Coerce] = {
    ColumnType.STRING: _string,
    ColumnType.INT: _number,
    ColumnType.FLOAT: _number,
    ColumnType.BOOL: _bool,
    ColumnType.TIMESTAMP: _timestamp,
}
