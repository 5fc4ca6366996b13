"""What a read asks for, as SQL, and its answer as record batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vectable.backends.answer import CELL_PARTS, FIXED, Answer
from vectable.backends.postgres.layout import Layout, cells_name, expression, gone
from vectable.backends.postgres.values import decoder
from vectable.core.predicate import Target, resolve
from vectable.core.schema import ColumnType

SqlRow = Sequence[Any]
_CACHED = 128


class Selection(Answer):
    """Columns and cells to read. `expressions` is the SQL list, `width` its length, `versions` the cells to
    join for it."""

    def __init__(self, layout: Layout, columns: Sequence[str], versions: Sequence[str]) -> None:
        self.versions: list[str] = list(versions)
        sources: dict[str, int] = {}
        readers: list[tuple[str, int, Target]] = []
        for name in columns:
            target = resolve(name, layout.table)
            if (
                target.column.type is not ColumnType.VECTOR
                and target.column.id not in layout.place.expressions
            ):
                raise gone(f"column {target.column.name!r}")
            sql, version = expression(target)
            if version is not None:
                self.versions.append(version)
            readers.append((name, sources.setdefault(sql, FIXED + len(sources)), target))
        for version in self.versions:
            if version not in layout.place.versions:
                raise gone("a version")
        expressions = ["t.key", "t.rev", *sources]
        super().__init__(readers, versions, len(expressions), decoder)
        for version in versions:
            expressions.append(layout.want(version))
            expressions += [f"{cells_name(version)}.{part}" for part in CELL_PARTS[1:]]
        self.width = len(expressions)
        self.with_proof: str | None = None
        self.at_once: str | None = None
        """The statements of `unchanged`, once they have been put together."""
        self.expressions = ", ".join(f"{sql} AS f{i}" for i, sql in enumerate(expressions))


def selection(layout: Layout, columns: Sequence[str], versions: Sequence[str]) -> Selection:
    """The selection for these columns and versions, made once. Raises StaleGeneration for what is not
    stored."""
    asked = (tuple(columns), tuple(versions))
    found: Selection | None = layout.selections.get(asked)
    if found is None:
        if len(layout.selections) >= _CACHED:
            layout.selections.clear()
        found = layout.selections[asked] = Selection(layout, *asked)
    return found
