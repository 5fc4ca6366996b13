"""Filters for PostgreSQL, with what their beginnings of texts say to its indexes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vectable.backends.compile.filter import conjuncts, split
from vectable.backends.compile.sql import POSTGRES, POSTGRES_FOREIGN
from vectable.backends.postgres.layout import beginning, cells_name, expression
from vectable.core.predicate import Clause, Predicate, Target, resolve
from vectable.core.schema import ColumnType, Table
from vectable.interfaces import Pushed

_FOLLOWS = {"=": "=", "in": "=", "<": "<=", "<=": "<=", ">": ">=", ">=": ">="}
"""By operator: how then the beginnings of both texts compare."""


def push(table: Table, where: Predicate) -> Pushed:
    """Splits a bound predicate into what PostgreSQL evaluates and what is left."""
    dialect = POSTGRES if table.foreign is None else POSTGRES_FOREIGN
    pushed = split(table, where, dialect, _compared, cells_name)
    native = pushed.native
    params = list(native.params)
    hints = "".join(f" AND {hint}" for hint in _beginnings(table, where, params))
    if not hints:
        return pushed
    return replace(pushed, native=replace(native, text=native.text + hints, params=tuple(params)))


def _compared(target: Target) -> tuple[str, str | None]:
    sql, version = expression(target)
    return (f"{sql}::jsonb" if version is None and target.type is ColumnType.JSON else sql), version


def _beginnings(table: Table, where: Predicate, params: list[Any]) -> Iterator[str]:
    """What follows from the filter for the beginnings of texts, in the words of the indexes over them."""
    indexed = {index.column for index in table.indexes if index.type == "btree"}
    if not indexed or table.foreign is not None:
        return
    for clause in conjuncts(where):
        if not isinstance(clause, Clause) or clause.operator not in _FOLLOWS:
            continue
        target = resolve(clause.column, table)
        if target.column.id not in indexed or target.type is not ColumnType.STRING or target.path:
            continue
        stored, _ = expression(target)
        params.append(list(clause.value) if clause.operator == "in" else clause.value)
        if clause.operator == "in":
            listed = f"SELECT {beginning('given')} FROM unnest(${len(params)}::text[]) AS given"
            yield f"{beginning(stored)} = ANY (ARRAY({listed}))"
        else:
            given = beginning(f"${len(params)}::text")
            yield f"{beginning(stored)} {_FOLLOWS[clause.operator]} {given}"
