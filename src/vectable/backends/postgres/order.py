"""Sort terms and keyset positions as SQL: nulls last both ways, the key always the final term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vectable.backends.postgres.layout import expression
from vectable.backends.postgres.values import CASTS
from vectable.core.predicate import Target, resolve
from vectable.core.query import OrderTerm
from vectable.core.schema import Table
from vectable.interfaces import Position


def order_by(table: Table, order: Sequence[OrderTerm]) -> tuple[str, list[str]]:
    """The ORDER BY list, and the versions it needs joined."""
    terms, versions = [], []
    for term in order:
        sql, version = _sorted(resolve(term.column, table))
        if version is not None:
            versions.append(version)
        terms.append(f"{sql} DESC NULLS LAST" if term.descending else sql)
    return ", ".join([*terms, "t.key"]), versions


def _sorted(target: Target) -> tuple[str, str | None]:
    sql, version = expression(target)
    return (f'{sql} COLLATE "C"' if target.state else sql), version


def after_sql(table: Table, order: Sequence[OrderTerm], after: Position, start: int) -> tuple[str, list[Any]]:
    """A condition for the rows behind `after`, and its parameters, numbered from `start`."""
    params: list[Any] = [after.key]
    text = f"t.key > ${start}"
    for term, value in reversed(list(zip(order, after.values, strict=True))):
        target = resolve(term.column, table)
        sql, _ = _sorted(target)
        if value is None:
            # Nothing comes after nulls but other nulls.
            text = f"({sql} IS NULL AND {text})"
            continue
        mark = f"${start + len(params)}::{CASTS[target.type]}"
        params.append(value)
        sign = "<" if term.descending else ">"
        nulls = "" if target.state or not target.column.nullable else f" OR {sql} IS NULL"
        text = f"({sql} {sign} {mark}{nulls} OR ({sql} = {mark} AND {text}))"
    return text, params
