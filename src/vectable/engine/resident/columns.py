"""Filter columns held beside the vectors: which ones a filter needs, by ids that survive a rename."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from vectable.core.predicate import Predicate, columns_of, format_name, resolve
from vectable.core.schema import ColumnType, Table


@dataclass(frozen=True, slots=True)
class FilterColumn:
    """A stored column, or a path into a JSON one."""

    id: str
    name: str
    """Its canonical name in the table's present definition."""
    type: ColumnType


def filter_columns(where: Predicate, table: Table) -> Mapping[str, FilterColumn] | None:
    """What the bound predicate reads, by name; None when it reads cells (a state, or whether a vector is
    there), which change without the row changing: such filters are the backend's."""
    found: dict[str, FilterColumn] = {}
    for name in columns_of(where):
        target = resolve(name, table)
        if target.column.type is ColumnType.VECTOR:
            return None
        path = json.dumps(target.path) if target.path else ""
        found[name] = FilterColumn(target.column.id + path, target.name, target.type)
    return found


def named_again(column: FilterColumn, table: Table) -> FilterColumn | None:
    """A loaded column under its present name; None when the table no longer has it."""
    identity, bracket, path = column.id.partition("[")
    for present in table.columns:
        if present.id == identity:
            if not bracket:
                return FilterColumn(column.id, present.name, present.type)
            steps = tuple(json.loads("[" + path))
            return FilterColumn(column.id, format_name(present.name, steps), present.type)
    return None
