"""From checked rows to the puts that store them: their wanted contents, and the vectors that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from vectable.core.cell import GIVEN
from vectable.core.key import KeyBytes, decode_key
from vectable.core.puts import PutColumns, Stored
from vectable.core.recipe import content_key, render, template_columns
from vectable.core.rows import Guard, OnConflict
from vectable.core.schema import Table
from vectable.core.values import check_default
from vectable.engine.prepare import PreparedColumns, row_check
from vectable.errors import KeyExists

KeyOut = Any
"""A key as users see it: its one part, or a list of parts."""

Wants = dict[str, list[bytes | None]]
"""Content keys by version id, one per row."""


def wanted(table: Table, rows: PreparedColumns) -> Wants:
    """The content key each row wants, for every live version; GIVEN for a vector the user gave, None where
    there is nothing to embed."""
    defaults = {c.name: check_default(c) for c in table.stored_columns if c.default is not None}
    count = len(rows.keys)
    wants: Wants = {}
    for id_, vectors in rows.given.items():
        present = vectors.present
        wants[id_] = [GIVEN] * count if present is None else [GIVEN if p else None for p in present]
    for column, version in table.versions:
        if column.embedding is None:
            continue
        identity, prompt, template = version.identity or "", version.prompt, column.embedding.template
        names = [name for name in template_columns(template) if name in rows.columns]
        sources = zip(*(rows.columns[name] for name in names), strict=True) if names else repeat((), count)
        contents = (render(template, dict(zip(names, values, strict=True)), defaults) for values in sources)
        wants[version.id] = [
            None if content is None else content_key(identity, prompt, content) for content in contents
        ]
    return wants


def key_out(key: KeyBytes) -> KeyOut:
    """The key as users see it."""
    parts = decode_key(key)
    return parts[0] if len(parts) == 1 else list(parts)


class CheckedPuts(NamedTuple):
    """Rows to write, one per key, and what each wants; `ids`: the keys of all rows given, as users see
    them."""

    rows: PreparedColumns
    wants: Wants
    ids: list[KeyOut]


def checked_puts(
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    make_id: Callable[[int], str],
    on_conflict: OnConflict,
    *,
    yields: bool = False,
) -> CheckedPuts:
    """Rows ready to be written; `yields` as `RowCheck.rows` has it. When a key comes twice, the last stays
    under replace and the first under skip. Raises InvalidRow, TooLarge, and under error KeyExists."""
    prepared = row_check(table).rows(rows, make_id, yields=yields)
    ids = keys_out(table, prepared)
    kept = one_per_key(prepared.keys, on_conflict)
    if kept is not None:
        prepared = prepared.take(kept)
    return CheckedPuts(prepared, wanted(table, prepared), ids)


def keys_out(table: Table, rows: PreparedColumns) -> list[KeyOut]:
    """`key_out` of every row."""
    parts = [rows.columns[c.name] for c in table.key_columns]
    return list(parts[0]) if len(parts) == 1 else list(map(list, zip(*parts, strict=True)))


def one_per_key(keys: Sequence[KeyBytes], on_conflict: OnConflict) -> Sequence[int] | None:
    """Positions to write when a key comes twice in one call (the last under replace, the first under skip);
    None where none does. Raises KeyExists under error."""
    if len(set(keys)) == len(keys):
        return None
    positions: dict[KeyBytes, int] = {}
    for position, key in enumerate(keys):
        if key in positions:
            if on_conflict == "error":
                raise KeyExists(
                    f"row {position} has the key of row {positions[key]}",
                    hint="give each row its own key, or on_conflict replace or skip",
                    context={"row": position, "keys": [str(key_out(key))]},
                )
            if on_conflict == "skip":
                continue
        positions[key] = position
    return list(positions.values())


def puts_of(
    rows: PreparedColumns,
    wants: Wants,
    cached: Mapping[tuple[str, bytes], bytes],
    guard: Guard,
    revisions: Sequence[Any] | None = None,
) -> PutColumns:
    """The write of the rows, with the vectors that are known already: those given, and those found by version
    id and content key."""
    vectors: dict[str, Stored] = {version: v for version, v in rows.given.items() if version in wants}
    for version in {version for version, _ in cached}:
        vectors[version] = [None if w is None else cached.get((version, w)) for w in wants[version]]
    return PutColumns(rows.keys, rows.columns, wants, vectors, guard, revisions)
