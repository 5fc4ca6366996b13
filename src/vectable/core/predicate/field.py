"""Filters in Python: `(t.quality_score >= 7) & (t.language == "TypeScript")`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from vectable.core.predicate.columns import ERROR, STATE, format_name, split_name
from vectable.core.predicate.nodes import Clause, Operator
from vectable.core.predicate.parse import clause
from vectable.errors import InvalidFilter

if TYPE_CHECKING:
    from vectable.core.query import OrderTerm


class Field:
    """A column to compare with. Every comparison gives a node, checked at once (InvalidFilter).

    `field == value` is a node too, never a bool; hence a Field is hashed by name, but must not be looked up
    in a list or compared with another Field: compare `.name`. `a <= field <= b`, `and`, `or` and `not` raise
    InvalidFilter: use `.between(a, b)`, `&`, `|`, `~`."""

    __slots__ = ("name",)

    name: str
    """The canonical spelling, e.g. "meta.stars"."""

    def __init__(self, name: str) -> None:
        self.name = format_name(*split_name(name))

    def __getitem__(self, step: str | int) -> Field:
        """A part of a JSON value: `t.meta["stars"]`, `t.meta["tags"][0]`."""
        if isinstance(step, bool) or not isinstance(step, (str, int)) or (isinstance(step, int) and step < 0):
            raise InvalidFilter(
                f"{step!r} is not a part of {self.name!r}", hint="use a key, or a position from 0"
            )
        column, path = split_name(self.name)
        return Field(format_name(column, (*path, step)))

    __iter__ = None
    __contains__ = None

    @property
    def state(self) -> Field:
        """The state of this vector column's cell: ready, new, stale, error or empty."""
        return Field(f"{self.name}.{STATE}")

    @property
    def error(self) -> Field:
        """What this vector column's cell failed with, to be selected: `t.select("id", t.emb.error)`."""
        return Field(f"{self.name}.{ERROR}")

    def _clause(self, operator: Operator, value: Any = None) -> Clause:
        if isinstance(value, Field):
            raise InvalidFilter(
                f"{self.name!r} is compared with column {value.name!r}", hint="compare a column with a value"
            )
        return clause(self.name, operator, value)

    def __eq__(self, value: object) -> Clause:  # type: ignore[override]
        return self._clause("is null") if value is None else self._clause("=", value)

    def __ne__(self, value: object) -> Clause:  # type: ignore[override]
        return self._clause("is not null") if value is None else self._clause("!=", value)

    def __hash__(self) -> int:
        return hash((Field, self.name))

    def __lt__(self, value: Any) -> Clause:
        return self._clause("<", value)

    def __le__(self, value: Any) -> Clause:
        return self._clause("<=", value)

    def __gt__(self, value: Any) -> Clause:
        return self._clause(">", value)

    def __ge__(self, value: Any) -> Clause:
        return self._clause(">=", value)

    def in_(self, values: Iterable[Any]) -> Clause:
        """Equal to one of `values` (at most 10,000)."""
        return self._clause("in", _listed(values, self.name))

    def not_in(self, values: Iterable[Any]) -> Clause:
        """Not null, and equal to none of `values`."""
        return self._clause("not in", _listed(values, self.name))

    def between(self, low: Any, high: Any) -> Clause:
        """`low <= value <= high`."""
        return self._clause("between", [low, high])

    def like(self, pattern: str) -> Clause:
        """The whole text matches: `%` any run, `_` any one character, `\\` escapes. Case-sensitive."""
        return self._clause("like", pattern)

    def ilike(self, pattern: str) -> Clause:
        """`like` on case-folded text."""
        return self._clause("ilike", pattern)

    def startswith(self, prefix: str) -> Clause:
        """Text that begins with `prefix`."""
        return self._clause("starts_with", prefix)

    def contains(self, value: Any) -> Clause:
        """Text that holds `value`; a list or JSON array of which `value` is a member."""
        return self._clause("contains", value)

    def is_null(self) -> Clause:
        """No value. Under a JSON path: a null that is there."""
        return self._clause("is null")

    def is_not_null(self) -> Clause:
        """A value. Under a JSON path: anything there but null."""
        return self._clause("is not null")

    def __neg__(self) -> OrderTerm:
        """Downwards, as a sort term: `order_by(-t.stars)`."""
        from vectable.core.query import OrderTerm  # it is built on filters

        return OrderTerm(column=self.name, descending=True)

    def __bool__(self) -> bool:
        raise InvalidFilter(f"column {self.name!r} has no truth value", hint=f"write {self.name} == True")

    def __repr__(self) -> str:
        return f"Field({self.name!r})"


def _listed(values: Iterable[Any], name: str) -> list[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InvalidFilter(f"{name!r} in takes a list, not {type(values).__name__}")
    return list(values)
