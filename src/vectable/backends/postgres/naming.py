"""Chooses what tables and columns are called in the database: as people call them, where that can be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from vectable.backends.postgres.layout import KEY, REVISION, XID
from vectable.core.schema import DEFAULT_NAMESPACE, Table
from vectable.drivers.postgres import NAME_BYTES

_TAKEN = frozenset({KEY, XID, REVISION, "tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", "oid"})
"""Ours, and those every table of PostgreSQL has."""
_ID_PART = 8
_ATTEMPTS = 50


def fitted(name: str, suffix: str = "") -> str:
    """`name` with `suffix`, cut at a character so that it fits the longest name there is."""
    room = NAME_BYTES - len(suffix.encode())
    return name.encode()[:room].decode(errors="ignore") + suffix


def column_names(table: Table) -> Mapping[str, str]:
    """By id, what the stored columns are called. The same for the same definition."""
    names: dict[str, str] = {}
    taken = set(_TAKEN)
    for column in table.stored_columns:
        plain = fitted(column.name)
        if plain in taken or plain != column.name:
            plain = fitted(column.name, f"_{column.id[:_ID_PART]}")
            for number in range(2, _ATTEMPTS):
                if plain not in taken:
                    break
                plain = fitted(column.name, f"_{column.id[:_ID_PART]}_{number}")
        names[column.id] = plain
        taken.add(plain)
    return names


def plain_name(table: Table) -> str:
    """What the table would like to be called."""
    if table.namespace == DEFAULT_NAMESPACE:
        return fitted(table.name)
    return fitted(f"{table.namespace}_{table.name}")


async def free_name(table: Table, is_free: Callable[[str], Awaitable[bool]]) -> str:
    """The first name for the table that `is_free`."""
    name = plain_name(table)
    number = 1
    while not await is_free(name):
        part = table.id[:_ID_PART] if number == 1 else f"{table.id[:_ID_PART]}_{number}"
        name = fitted(plain_name(table), f"_{part}")
        number += 1
    return name
