"""Definitions on their way to another database: the same ids where they are free, else new ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vectable.core.schema import Column, Index, Table, new_id

_NO_ID = {"id": "", "active": None, "versions": ()}


def same_shape(one: Table, other: Table, *, ids: bool) -> bool:
    """Whether rows of one are rows of the other: the same columns, key and versions. `ids`: by the same ids,
    too. What a table is called, its indexes and its generation do not matter."""
    return _shape(one, ids) == _shape(other, ids)


def _shape(table: Table, ids: bool) -> list[Any]:
    return [[c.name for c in table.key_columns], *(_column_shape(c, ids) for c in table.columns)]


def _column_shape(column: Column, ids: bool) -> Any:
    if ids:
        return column.model_dump()
    versions = [{**v.model_dump(exclude={"id"}), "active": v.id == column.active} for v in column.versions]
    return column.model_copy(update=_NO_ID).model_dump(), versions


def version_ids(source: Table, target: Table) -> Mapping[str, str]:
    """The target's version id by the source's, of tables of the same shape."""
    pairs = zip(source.versions, target.versions, strict=True)
    return {ours.id: theirs.id for (_, ours), (_, theirs) in pairs}


def for_target(source: Table, *, fresh: bool) -> Table:
    """The definition a destination begins with, its rows its own; indexes are built once the rows are there.
    `fresh`: under ids of its own."""
    bare = source.model_copy(update={"indexes": (), "foreign": None})
    if not fresh:
        return bare
    columns = []
    renamed: dict[str, str] = {}
    for column in source.columns:
        versions = tuple(v.model_copy(update={"id": new_id()}) for v in column.versions)
        known = {old.id: new.id for old, new in zip(column.versions, versions, strict=True)}
        renamed[column.id] = new_id()
        columns.append(
            column.model_copy(
                update={
                    "id": renamed[column.id],
                    "versions": versions,
                    "active": known.get(column.active or ""),
                }
            )
        )
    key = tuple(renamed[i] for i in source.key)
    return bare.model_copy(update={"id": new_id(), "key": key, "columns": tuple(columns)})


def index_for(index: Index, source: Table, target: Table) -> Index:
    """The source's index over the target's columns and versions."""
    name = next(c.name for c in source.columns if c.id == index.column)
    return index.model_copy(
        update={
            "id": index.id if source.id == target.id else new_id(),
            "column": target.column(name).id,
            "version": version_ids(source, target).get(index.version or ""),
        }
    )
