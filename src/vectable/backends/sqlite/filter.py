"""Filters for SQLite: the compiled text, and which cells it looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vectable.backends.compile.sql import SQLITE, compile_sql
from vectable.backends.sqlite.layout import Layout, cells_name
from vectable.core.predicate import TRUE, Clause, Combination, Predicate, Target, resolve
from vectable.interfaces import Pushed

_UNFINISHED = frozenset({"new", "stale", "error"})


@dataclass(frozen=True, slots=True)
class Filter:
    """What `Pushed.native` is here. `versions` are the cells to join; `everything`: no row is left out."""

    text: str
    params: tuple[Any, ...]
    versions: tuple[str, ...]
    everything: bool


def push(layout: Layout, where: Predicate) -> Pushed:
    """Splits a bound predicate into what SQLite evaluates and what is left."""
    if where == TRUE:
        return Pushed(Filter("TRUE", (), (), everything=True), text="true")
    pending = dict.fromkeys(_pending_versions(layout, where))
    versions: dict[str, None] = dict(pending)
    said: dict[str, str] = {}

    def column_sql(target: Target) -> str:
        sql, version = layout.expression(target)
        if version is not None:
            versions[version] = None
            if target.state and version in pending:
                sql = f"{cells_name(version)}.state"
        said[sql] = target.name
        return sql

    compiled = compile_sql(where, layout.table, column_sql, SQLITE)
    text = compiled.text
    for version in pending:
        # Says to SQLite that the small index of unfinished cells holds every row asked for.
        text = f"{text} AND {cells_name(version)}.state <> 'ready'"
    shown = compiled.text
    for sql in sorted(said, key=len, reverse=True):
        shown = shown.replace(sql, said[sql])
    native = Filter(
        text, compiled.params, tuple(versions), everything=compiled.text == "TRUE" and not pending
    )
    return Pushed(native, compiled.residual, shown)


def _pending_versions(layout: Layout, where: Predicate) -> Iterator[str]:
    """Versions for which every row that passes has a cell with work to do."""
    conjuncts = where.args if isinstance(where, Combination) and where.op == "and" else (where,)
    for clause in conjuncts:
        if isinstance(clause, Clause) and clause.operator in ("=", "in"):
            target = resolve(clause.column, layout.table)
            values = clause.value if clause.operator == "in" else (clause.value,)
            if target.state and target.column.active and _UNFINISHED.issuperset(values):
                yield target.column.active
