"""Clauses over arrays, for PostgreSQL: equality of whole lists, and membership, which a GIN index serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vectable.backends.compile.parts import MARK, NOTHING, Part, present
from vectable.core.predicate import Clause, Target
from vectable.core.predicate.fold import fold_number
from vectable.core.schema import LIST_TYPES, ColumnType

_ELEMENTS = {ColumnType.STRING: "text", ColumnType.INT: "bigint", ColumnType.FLOAT: "double precision"}


def clause(column: str, target: Target, clause: Clause) -> Part:
    """`clause` over a one-dimensional array without null members."""
    operator, element = clause.operator, LIST_TYPES[target.type]
    sql = _ELEMENTS[element]
    if operator == "contains":
        member = _members([clause.value], element)
        return NOTHING if member is None else Part(f"{column} @> ARRAY[{MARK}::{sql}]", (member[0],))
    values = clause.value if operator in ("in", "not in") else (clause.value,)
    wanted = [found for value in values if (found := _members(value, element)) is not None]
    negated = operator in ("!=", "not in")
    if not wanted:
        return present(column) if negated else NOTHING
    if len(wanted) == 1:
        return Part(f"{column} {'<>' if negated else '='} {MARK}::{sql}[]", (wanted[0],))
    marks = ", ".join([f"{MARK}::{sql}[]"] * len(wanted))
    return Part(f"{column} {'NOT IN' if negated else 'IN'} ({marks})", tuple(wanted))


def foreign_clause(column: str, target: Target, clause: Clause) -> Part:
    """`clause` over an array of any shape: containment nominates, the rest is left over."""
    element = LIST_TYPES[target.type]
    wanted: list[Any] | None = None
    if clause.operator == "contains":
        wanted = _members([clause.value], element)
    elif clause.operator == "=":
        wanted = _members(clause.value, element)
    if not wanted:
        return present(column, exact=False)
    return Part(f"{column} @> {MARK}::{_ELEMENTS[element]}[]", (wanted,), exact=False)


def _members(values: Sequence[Any], element: ColumnType) -> list[Any] | None:
    """The values as the array's element type; None where one has no equal there."""
    if element is ColumnType.STRING:
        return list(values)
    found = []
    for value in values:
        folded = fold_number(Clause(column="x", operator="=", value=value), element is ColumnType.INT)
        if not isinstance(folded, Clause):
            return None
        found.append(folded.value)
    return found
