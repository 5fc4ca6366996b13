"""Columns of a table as attributes: `t.quality_score >= 8`."""

from __future__ import annotations

from vectable.core.predicate import Field, split_name
from vectable.core.schema import Table
from vectable.errors import UnknownColumn, did_you_mean

_VERBS = frozenset({"collect", "first", "stream", "explain"})


class Columns:
    """Gives a table's columns by attribute (`t.title`) and by name (`t["title"]`, `t["meta.stars"]`), as
    Fields to compare with. Methods win over columns of the same name: `t["count"]` is the column, `t.count`
    the method."""

    @property
    def definition(self) -> Table:
        """The table's definition, as this database handle last saw it."""
        raise NotImplementedError

    def _seen(self, name: str) -> bool:
        """Whether the table has a column of that name."""
        return any(c.name == name for c in self.definition.columns)

    def __getattr__(self, name: str) -> Field:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self._field(name)

    def __getitem__(self, name: str) -> Field:
        if not isinstance(name, str):
            raise UnknownColumn(f"a column name is a string, not {type(name).__name__}")
        return self._field(name)

    __iter__ = None

    def _field(self, name: str) -> Field:
        if not self._seen(split_name(name)[0]):
            raise self._unknown(name)
        return Field(name)

    def _unknown(self, name: str) -> UnknownColumn:
        columns = [c.name for c in self.definition.columns]
        hint = did_you_mean(name, columns, "columns")
        if name in _VERBS:
            hint = f"queries have it: write .select().{name}()"
        elif hint.startswith("known"):
            methods = [n for n in dir(type(self)) if not n.startswith("_")]
            near = did_you_mean(name, methods, "methods")
            hint = hint if near.startswith("known") else near
        return UnknownColumn(f"table {self.definition.full_name!r} has no column {name!r}", hint=hint)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(c.name for c in self.definition.columns)})
