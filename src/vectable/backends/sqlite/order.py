"""Sort terms and keyset positions as SQL: nulls last both ways, the key always the final term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vectable.backends.sqlite.layout import Layout
from vectable.backends.sqlite.values import encoder
from vectable.core.predicate import Target, resolve
from vectable.core.query import OrderTerm
from vectable.interfaces import Position


def order_by(layout: Layout, order: Sequence[OrderTerm]) -> tuple[str, list[str]]:
    """The ORDER BY list, and the versions it needs joined."""
    terms, versions = [], []
    for term in order:
        target = resolve(term.column, layout.table)
        sql, version = layout.expression(target)
        if version is not None:
            versions.append(version)
        if term.descending:
            terms.append(f"{sql} DESC")  # SQLite's null is the least value, so last here anyway
        else:
            terms.append(f"{sql} NULLS LAST" if _nullable(target) else sql)
    return ", ".join([*terms, "t.key"]), versions


def _nullable(target: Target) -> bool:
    return not target.state and target.column.nullable


def after_sql(layout: Layout, order: Sequence[OrderTerm], after: Position) -> tuple[str, list[Any]]:
    """A condition for the rows behind `after`, and its parameters."""
    text, params = "t.key > ?", [after.key]
    for term, value in reversed(list(zip(order, after.values, strict=True))):
        target = resolve(term.column, layout.table)
        sql, _ = layout.expression(target)
        if value is None:
            # Nothing comes after nulls but other nulls.
            text = f"({sql} IS NULL AND {text})"
            continue
        encode = None if target.state else encoder(target.type)
        stored = value if encode is None else encode(value)
        sign = "<" if term.descending else ">"
        nulls = f" OR {sql} IS NULL" if _nullable(target) else ""
        text = f"({sql} {sign} ?{nulls} OR ({sql} = ? AND {text}))"
        params = [stored, stored, *params]
    return text, params
