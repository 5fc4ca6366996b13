"""What a read asks for, as SQL, and its answer as record batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from vectable.backends.answer import CELL_PARTS, Answer, read_from, remembered
from vectable.backends.postgres.layout import Layout, cells_name, expression
from vectable.backends.postgres.values import decoder
from vectable.backends.refusals import gone
from vectable.core.predicate import Target
from vectable.core.schema import ColumnType

SqlRow = Sequence[Any]


class Selection(Answer):
    """Columns and cells to read. `expressions` is the SQL list, `width` its length, `versions` the cells to
    join for it."""

    def __init__(self, layout: Layout, columns: Sequence[str], versions: Sequence[str]) -> None:

        def stored(target: Target) -> tuple[str, str | None]:
            column = target.column
            if column.type is not ColumnType.VECTOR and column.id not in layout.place.expressions:
                raise gone(f"column {column.name!r}")
            return expression(target)

        readers, sources, needed = read_from(layout.table, columns, stored)
        self.versions = [*versions, *needed]
        for version in self.versions:
            if version not in layout.place.versions:
                raise gone("a version")
        expressions = ["t.key", "t.rev", *sources]
        super().__init__(readers, versions, len(expressions), decoder)
        for version in versions:
            expressions.append(layout.want(version))
            expressions += [f"{cells_name(version)}.{part}" for part in CELL_PARTS[1:]]
        self.width = len(expressions)
        self.proved: dict[tuple[bool, bool], str] = {}
        """The statements of `unchanged`, once they have been put together."""
        self.expressions = ", ".join(f"{sql} AS f{i}" for i, sql in enumerate(expressions))


def selection(layout: Layout, columns: Sequence[str], versions: Sequence[str]) -> Selection:
    """The selection for these columns and versions, made once. Raises StaleGeneration for what is not
    stored."""
    return remembered(layout.selections, columns, versions, partial(Selection, layout))
