"""Filters of SQL engines: the compiled text, and which cells it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from vectable.backends.compile.dialects import Dialect
from vectable.backends.compile.sql import compile_sql
from vectable.core.predicate import TRUE, Clause, Combination, Predicate, Target, resolve
from vectable.core.schema import Table
from vectable.interfaces import Pushed

_UNFINISHED = frozenset({"new", "stale", "error"})


@dataclass(frozen=True, slots=True)
class Filter:
    """What `Pushed.native` is: `text` over `params`. `versions` are the cells to join; `everything`: no row
    is left out."""

    text: str
    params: tuple[Any, ...]
    versions: tuple[str, ...]
    everything: bool


_ALL = Pushed(Filter("TRUE", (), (), everything=True), text="true")


def split(
    table: Table,
    where: Predicate,
    dialect: Dialect,
    expression: Callable[[Target], tuple[str, str | None]],
    cells_name: Callable[[str], str],
) -> Pushed:
    """Splits a bound predicate into what the engine evaluates and what is left. `expression` is the SQL for a
    target and the version to join for it; `cells_name` what a version's cells are called."""
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
        said[sql] = target.name
        return sql

    compiled = compile_sql(where, table, column_sql, dialect)
    text = compiled.text
    for version in pending:
        # Says to the planner that the small index of unfinished cells holds every row asked for.
        text = f"{text} AND {cells_name(version)}.state <> 'ready'"
    shown = compiled.text
    for sql in sorted(said, key=len, reverse=True):
        shown = shown.replace(sql, said[sql])
    everything = compiled.text == "TRUE" and not pending
    return Pushed(Filter(text, compiled.params, tuple(versions), everything), compiled.residual, shown)


def conjuncts(where: Predicate) -> tuple[Predicate, ...]:
    """What holds for every row that passes."""
    return where.args if isinstance(where, Combination) and where.op == "and" else (where,)


def _pending_versions(table: Table, where: Predicate) -> Iterator[str]:
    """Versions for which every row that passes has a cell with work to do."""
    for clause in conjuncts(where):
        if isinstance(clause, Clause) and clause.operator in ("=", "in"):
            target = resolve(clause.column, table)
            values = clause.value if clause.operator == "in" else (clause.value,)
            if target.state and target.column.active and _UNFINISHED.issuperset(values):
                yield target.column.active
