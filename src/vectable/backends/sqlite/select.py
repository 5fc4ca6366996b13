"""What a read asks for, as SQL, and its answer as record batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from vectable.backends.answer import CELL_PARTS, Answer, read_from, remembered
from vectable.backends.sqlite.layout import Layout, cells_name
from vectable.backends.sqlite.values import decoder
from vectable.core.key import KeyBytes

SqlRow = tuple[Any, ...]
IN_LIST = 512
"""So many keys at most are looked up by one statement."""


def joins(layout: Layout, versions: Sequence[str], rows: str | None = None) -> str:
    """FROM, with the cells of `versions`. `rows`: what stands in place of the table's rows AS t."""
    parts = [f"FROM {rows or f'{layout.rows} AS t'}"]
    for version in dict.fromkeys(versions):
        cells = cells_name(version)
        parts.append(f"LEFT JOIN {cells} ON {cells}.rid = t.rid")
    return " ".join(parts)


class Selection(Answer):
    """Columns and cells to read. `expressions` is the SQL list, `versions` the cells to join for it."""

    def __init__(self, layout: Layout, columns: Sequence[str], versions: Sequence[str]) -> None:
        readers, sources, needed = read_from(layout.table, columns, layout.expression)
        self.versions = [*versions, *needed]
        expressions = ["t.key", "t.seq", *sources]
        super().__init__(readers, versions, len(expressions), decoder)
        for version in versions:
            cells = cells_name(version)
            expressions += [f"{cells}.{part}" for part in CELL_PARTS]
        self.expressions = ", ".join(expressions)
        self.with_proof: dict[int, str] = {}
        """Statements that also prove what they were asked for, by how many keys they take."""


def padded(keys: Sequence[KeyBytes]) -> list[KeyBytes]:
    """The keys, repeated up to a power of two, so that few statements need to be prepared; a repeat adds no
    row."""
    return [*keys, *[keys[0]] * ((1 << (len(keys) - 1).bit_length()) - len(keys))] if keys else []


def selection(layout: Layout, columns: Sequence[str], versions: Sequence[str]) -> Selection:
    """The selection for these columns and versions, made once."""
    return remembered(layout.selections, columns, versions, partial(Selection, layout))
