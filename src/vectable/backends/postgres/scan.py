"""Rows in order, as one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vectable.backends.compile.filter import Filter
from vectable.backends.postgres.layout import Layout
from vectable.backends.postgres.order import after_sql, order_by
from vectable.backends.postgres.select import Selection
from vectable.core.query import OrderTerm
from vectable.interfaces import Position


def scan_sql(
    layout: Layout,
    chosen: Selection,
    condition: Filter,
    order: Sequence[OrderTerm],
    after: Position | None,
    limit: int | None,
) -> tuple[str, list[Any], list[str]]:
    """What stands behind the list of `chosen` for the rows passing `condition` behind `after`, in order; its
    parameters; the versions whose cells it reads."""
    table = layout.table
    ordering, needed = order_by(table, order)
    text, params = condition.text, list(condition.params)
    if after is not None:
        behind, more = after_sql(table, order, after, len(params) + 1)
        text, params = f"({text}) AND {behind}", params + more
    versions = [*chosen.versions, *condition.versions, *needed]
    sql = f"{layout.joined(versions)} WHERE {text} ORDER BY {ordering}"
    if limit is not None:
        params.append(limit)
        sql = f"{sql} LIMIT ${len(params)}::bigint"
    return sql, params, versions
