"""Filters for PostgreSQL: the compiled text, and which cells it looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vectable.backends.compile.sql import POSTGRES, POSTGRES_FOREIGN, compile_sql
from vectable.backends.postgres.layout import beginning, cells_name, expression
from vectable.core.predicate import TRUE, Clause, Combination, Predicate, Target, resolve
from vectable.core.schema import ColumnType, Table
from vectable.interfaces import Pushed

_FOLLOWS = {"=": "=", "in": "=", "<": "<=", "<=": "<=", ">": ">=", ">=": ">="}
"""By operator: how then the beginnings of both texts compare."""
_UNFINISHED = frozenset({"new", "stale", "error"})


@dataclass(frozen=True, slots=True)
class Filter:
    """What `Pushed.native` is here: `text` over `params`, numbered from 1. `versions` are the cells to join;
    `everything`: no row is left out."""

    text: str
    params: tuple[Any, ...]
    versions: tuple[str, ...]
    everything: bool


_ALL = Pushed(Filter("TRUE", (), (), everything=True), text="true")


def push(table: Table, where: Predicate) -> Pushed:
    """Splits a bound predicate into what PostgreSQL evaluates and what is left."""
    if where == TRUE:
        return _ALL
    pending = dict.fromkeys(_pending_versions(table, where))
    versions: dict[str, None] = dict(pending)
    said: dict[str, str] = {}

    def column_sql(target: Target) -> str:
        sql, version = expression(target)
        if version is not None:
            versions[version] = None
            if target.state and version in pending:
                sql = f"{cells_name(version)}.state"
        elif target.type is ColumnType.JSON:
            sql = f"{sql}::jsonb"
        said[sql] = target.name
        return sql

    compiled = compile_sql(where, table, column_sql, POSTGRES if table.foreign is None else POSTGRES_FOREIGN)
    text = compiled.text
    for version in pending:
        # Says to the planner that the small index of unfinished cells holds every row asked for.
        text = f"{text} AND {cells_name(version)}.state <> 'ready'"
    shown = compiled.text
    for sql in sorted(said, key=len, reverse=True):
        shown = shown.replace(sql, said[sql])
    everything = compiled.text == "TRUE" and not pending
    params = list(compiled.params)
    for hint in _beginnings(table, where, params):
        text = f"{text} AND {hint}"
    return Pushed(Filter(text, tuple(params), tuple(versions), everything), compiled.residual, shown)


def _beginnings(table: Table, where: Predicate, params: list[Any]) -> Iterator[str]:
    """What follows from the filter for the beginnings of texts, in the words of the indexes over them."""
    indexed = {index.column for index in table.indexes if index.type == "btree"}
    if not indexed or table.foreign is not None:
        return
    for clause in _conjuncts(where):
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


def _conjuncts(where: Predicate) -> tuple[Predicate, ...]:
    return where.args if isinstance(where, Combination) and where.op == "and" else (where,)


def _pending_versions(table: Table, where: Predicate) -> Iterator[str]:
    """Versions for which every row that passes has a cell with work to do."""
    for clause in _conjuncts(where):
        if isinstance(clause, Clause) and clause.operator in ("=", "in"):
            target = resolve(clause.column, table)
            values = clause.value if clause.operator == "in" else (clause.value,)
            if target.state and target.column.active and _UNFINISHED.issuperset(values):
                yield target.column.active
