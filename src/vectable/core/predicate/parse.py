"""From anything a caller may give as a filter to resolved nodes in canonical form, within fixed limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vectable.core.predicate.columns import format_name, split_name
from vectable.core.predicate.nodes import (
    OPERATORS,
    TRUE,
    Clause,
    Combination,
    Negation,
    Operator,
    Predicate,
    SqlFilter,
    and_,
    not_,
    or_,
)
from vectable.core.predicate.values import plain_value, shown
from vectable.errors import InvalidFilter, did_you_mean

MAX_DEPTH = 64
MAX_NODES = 1_000
MAX_IN_VALUES = 10_000
MAX_PATTERN_LENGTH = 10_000
_SHAPES = (
    "a filter is a clause {column, operator, value}, a list of filters, "
    '{op: "and" | "or", args}, {op: "not", arg} or {sql, params}'
)
_TEXT_OPERATORS = frozenset({"like", "ilike", "starts_with"})
_NULL_OPERATORS = frozenset({"is null", "is not null"})


def parse_filter(value: Any) -> Predicate:
    """The canonical nodes of `value`: a node, a dict of one, a list (all must hold), text in the SQL-like
    language (or SqlFilter with parameters), or None (everything). The three spellings of one filter give
    equal nodes: nested combinations of one kind are flattened, single ones and double negations unwrapped,
    lists of `in` and `between` are tuples, column names have one spelling.

    Raises InvalidFilter beyond depth 64, 1,000 nodes or 10,000 `in` values, and for anything malformed."""
    _check_limits(value)
    predicate = _node(value)
    _check_limits(predicate)
    return predicate


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, Combination):
        return value.args
    if isinstance(value, Negation):
        return (value.arg,)
    if isinstance(value, Mapping):
        args = value.get("args")
        return [
            *(args if isinstance(args, (list, tuple)) else ()),
            *([value["arg"]] if "arg" in value else ()),
        ]
    return ()


def _check_limits(value: Any) -> None:
    """Without recursion, so that hostile nesting is an error of ours, not of the interpreter."""
    level: list[Any] = [value]
    nodes = depth = 0
    while level:
        depth += 1
        nodes += len(level)
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"the filter is nested more than {MAX_DEPTH} deep", hint="flatten it")
        if nodes > MAX_NODES:
            raise InvalidFilter(
                f"the filter has more than {MAX_NODES} parts", hint='use "in" for many values of one column'
            )
        level = [child for node in level for child in _children(node)]


def _node(value: Any) -> Predicate:
    if isinstance(value, Clause):
        return clause(value.column, value.operator, value.value)
    if isinstance(value, Combination):
        return _combination(value.op, value.args)
    if isinstance(value, Negation):
        return not_(_node(value.arg))
    if isinstance(value, Mapping):
        return _from_mapping(value)
    if value is None:
        return TRUE
    if isinstance(value, (list, tuple)):
        return and_(_node(v) for v in value)
    if isinstance(value, SqlFilter):
        return _from_text(value.sql, value.params)
    if isinstance(value, str):
        return _from_text(value, ())
    raise InvalidFilter(f"a {type(value).__name__} is not a filter", hint=_SHAPES)


def _combination(op: str, args: Iterable[Any]) -> Predicate:
    nodes = (_node(a) for a in args)
    return and_(nodes) if op == "and" else or_(nodes)


def _from_text(sql: str, params: Iterable[Any]) -> Predicate:
    from vectable.core.predicate.text import parse_text  # pays the import of sqlglot only when text is used

    return parse_text(sql, tuple(params))


def _from_mapping(value: Mapping[Any, Any]) -> Predicate:
    if "sql" in value:
        _only(value, ("sql", "params"))
        params = value.get("params", ())
        if not isinstance(value["sql"], str) or not isinstance(params, (list, tuple)):
            raise InvalidFilter("`sql` is a string and `params` a list", hint=_SHAPES)
        return _from_text(value["sql"], params)
    if "op" in value:
        return _from_operation(value)
    if "column" in value and "operator" in value:
        _only(value, ("column", "operator", "value"))
        return clause(value["column"], value["operator"], value.get("value"))
    missing = next((n for n in ("operator", "column") if n not in value and value), None)
    raise InvalidFilter(f"the clause has no `{missing}`" if missing else "{} is not a filter", hint=_SHAPES)


def _from_operation(value: Mapping[Any, Any]) -> Predicate:
    op = value["op"]
    if op == "not":
        _only(value, ("op", "arg"))
        if "arg" not in value:
            raise InvalidFilter('{op: "not"} needs `arg`', hint=_SHAPES)
        return not_(_node(value["arg"]))
    if op not in ("and", "or"):
        raise InvalidFilter(
            f"unknown op {shown(op)}",
            hint="op is and, or, not; a comparison says {column, operator, value}",
        )
    _only(value, ("op", "args"))
    if not isinstance(value.get("args"), (list, tuple)):
        raise InvalidFilter(f'{{op: "{op}"}} needs `args`, a list', hint=_SHAPES)
    return _combination(op, value["args"])


def _only(value: Mapping[Any, Any], allowed: tuple[str, ...]) -> None:
    for name in value:
        if name not in allowed:
            raise InvalidFilter(
                f"a filter has no field {shown(name)}", hint=did_you_mean(str(name), allowed, "fields")
            )


def clause(column: Any, operator: Any, value: Any = None) -> Clause:
    """A checked clause in canonical form; `bind` says whether it fits a table. Raises InvalidFilter."""
    if not isinstance(column, str):
        raise InvalidFilter(f"a column is named by a string, not {shown(column)}")
    if operator not in OPERATORS:
        raise InvalidFilter(
            f"unknown operator {shown(operator)}", hint=did_you_mean(str(operator), OPERATORS, "operators")
        )
    name = format_name(*split_name(column))
    return Clause(column=name, operator=operator, value=_operand(name, operator, value))


def _operand(column: str, operator: Operator, value: Any) -> Any:
    if operator in _NULL_OPERATORS:
        if value is not None:
            raise InvalidFilter(
                f"{column!r} {operator} takes no value, it was given {shown(value)}", hint="leave `value` out"
            )
        return None
    what = f"the value for {column!r}"
    if operator in ("in", "not in", "between"):
        return _operands(column, operator, value, what)
    plain = plain_value(value, what)
    if plain is None:
        raise InvalidFilter(f"{column!r} {operator} null holds for no row", hint="use is null or is not null")
    if operator in _TEXT_OPERATORS and not isinstance(plain, str):
        raise InvalidFilter(
            f"{column!r} {operator} takes a string, not {shown(plain)}", hint="write the value in quotes"
        )
    if operator in ("like", "ilike"):
        _check_pattern(plain, column)
    return plain


def _operands(column: str, operator: str, value: Any, what: str) -> tuple[Any, ...]:
    if isinstance(value, (set, frozenset)):
        value = list(value)
    if (
        hasattr(value, "__len__")
        and not isinstance(value, (str, bytes, Mapping))
        and len(value) > MAX_IN_VALUES
    ):
        raise InvalidFilter(
            f"{column!r} {operator} is given {len(value)} values", hint=f"at most {MAX_IN_VALUES}"
        )
    plain = plain_value(value, what)
    if not isinstance(plain, list):
        raise InvalidFilter(
            f"{column!r} {operator} takes a list, not {shown(value)}", hint="give a list of values"
        )
    if operator == "between" and len(plain) != 2:
        raise InvalidFilter(
            f"{column!r} between takes two values, it was given {len(plain)}", hint="give [lowest, highest]"
        )
    if any(v is None for v in plain):
        raise InvalidFilter(f"{column!r} {operator} is given a null", hint='add a clause "is null" instead')
    return tuple(plain)


def _check_pattern(pattern: str, column: str) -> None:
    trailing = len(pattern) - len(pattern.rstrip("\\"))
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise InvalidFilter(
            f"the pattern for {column!r} is {len(pattern)} characters long",
            hint=f"at most {MAX_PATTERN_LENGTH}",
        )
    if trailing % 2:
        raise InvalidFilter(
            f"the pattern for {column!r} ends with its escape character", hint=r"write \\ for a backslash"
        )
