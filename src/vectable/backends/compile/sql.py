"""Filters as parameterised SQL. What SQL cannot say exactly is said as a superset (at worst TRUE), and the
rest is handed back as the residual: the part the caller must still check on every row.

Storage the texts rely on: string TEXT compared by bytes, int INTEGER, float REAL, bool and timestamp as the
dialect's literals, null always SQL's NULL (of JSON, list, image and vector columns too).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vectable.core.key import timestamp_micros
from vectable.core.predicate import (
    Clause,
    Combination,
    Negation,
    Predicate,
    Target,
    and_,
    not_,
    resolve,
)
from vectable.core.predicate.fold import fold_number
from vectable.core.predicate.pattern import literal, literal_prefix, segments
from vectable.core.schema import ColumnType, Table

ColumnSql = Callable[[Target], str | None]
"""The expression that yields a target's stored value; None where the engine cannot reach it."""

MAX_PLACEHOLDERS = 500
"""A longer `in` list travels as one parameter where the dialect can take one."""
_MAX_FLAT = 50
"""A longer and/or is written as a balanced tree: engines limit the depth of expressions."""
_LAST = chr(0x10FFFF)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between engines. `literal` turns a value into a parameter; `in_list` gives what stands
    between the parentheses of a long `in` and its one parameter, or None where that would not be exact."""

    name: str
    placeholder: str
    literal: Callable[[Any], Any]
    substring: Callable[[str], str]
    """Text that is true where the column contains the parameter, by code points."""
    in_list: Callable[[Sequence[Any]], tuple[str, Any] | None]
    max_parameters: int


def _sqlite_literal(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    return timestamp_micros(value) if isinstance(value, dt.datetime) else value


def _sqlite_in_list(values: Sequence[Any]) -> tuple[str, Any] | None:
    if any(isinstance(v, float) for v in values):
        return None  # SQLite reads the decimal form of a float with an error in the last digit
    parameter = json.dumps([_sqlite_literal(v) for v in values], ensure_ascii=False)
    return "SELECT value FROM json_each(?)", parameter


SQLITE = Dialect(
    name="sqlite",
    placeholder="?",
    literal=_sqlite_literal,
    substring=lambda column: f"instr({column}, ?) > 0",
    in_list=_sqlite_in_list,
    max_parameters=30_000,
)
DIALECTS = {d.name: d for d in (SQLITE,)}


@dataclass(frozen=True, slots=True)
class Compiled:
    """`text` is a boolean expression over `params`, true for every row of the filter and, with a `residual`,
    for some others; null counts as false. `residual` is None when `exact`."""

    text: str
    params: tuple[Any, ...] = ()
    residual: Predicate | None = None

    @property
    def exact(self) -> bool:
        """Whether `text` holds for exactly the rows of the filter."""
        return self.residual is None


def compile_sql(
    predicate: Predicate, table: Table, column_sql: ColumnSql, dialect: Dialect = SQLITE
) -> Compiled:
    """A bound predicate as SQL and residual. Of an `and`, only the conjuncts that are not exact stay in the
    residual. Falls back to TRUE where the text would need more parameters than the engine takes."""
    compiler = _Compiler(table, column_sql, dialect)
    conjuncts: tuple[Predicate, ...] = (predicate,)
    if isinstance(predicate, Combination) and predicate.op == "and":
        conjuncts = predicate.args
    parts = [(c, compiler.part(c)) for c in conjuncts]
    residual = [c for c, part in parts if not part.exact]
    whole = _join("AND", [part for _, part in parts])
    if len(whole.params) > dialect.max_parameters:
        return Compiled("TRUE", (), predicate)
    return Compiled(whole.text or "TRUE", whole.params, and_(residual) if residual else None)


def residual(
    predicate: Predicate, table: Table, column_sql: ColumnSql, dialect: Dialect = SQLITE
) -> Predicate | None:
    """What `compile_sql` leaves to the caller; None when nothing."""
    return compile_sql(predicate, table, column_sql, dialect).residual


@dataclass(frozen=True, slots=True)
class _Part:
    """`text` "" means TRUE. `depth` counts nested parentheses."""

    text: str
    params: tuple[Any, ...] = ()
    exact: bool = True
    depth: int = field(default=0, compare=False)


_EVERYTHING = _Part("", exact=False)
_NOTHING = _Part("FALSE")


class _Compiler:
    def __init__(self, table: Table, column_sql: ColumnSql, dialect: Dialect) -> None:
        self._table = table
        self._column_sql = column_sql
        self._dialect = dialect

    def part(self, node: Predicate) -> _Part:
        if isinstance(node, Clause):
            return self._clause(node)
        if isinstance(node, Negation):
            return self._negation(node.arg)
        return _join(node.op.upper(), [self.part(arg) for arg in node.args])

    def _negation(self, arg: Predicate) -> _Part:
        inner = self.part(arg)
        if inner.exact:
            return _complement(inner)
        if not isinstance(arg, Combination):
            return _EVERYTHING
        # The complement of a superset is no superset; but de Morgan lets the exact members be pushed.
        members = [self.part(not_(a)) for a in arg.args]
        return _join("OR" if arg.op == "and" else "AND", members)

    def _clause(self, clause: Clause) -> _Part:
        target = resolve(clause.column, self._table)
        if target.type in (ColumnType.INT, ColumnType.FLOAT) and clause.value is not None:
            folded = fold_number(clause, target.type is ColumnType.INT)
            if not isinstance(folded, Clause):
                return self.part(folded)
            clause = folded
        column = self._column_sql(Target(target.column) if target.path else target)
        if column is None:
            return _EVERYTHING
        if target.path:  # whatever is asked of a part, nothing is part of a null
            return _Part(f"{column} IS NOT NULL", exact=False)
        if clause.operator in ("is null", "is not null"):
            return _Part(f"{column} {clause.operator.upper()}")
        if target.type not in _SCALARS:
            return _Part(f"{column} IS NOT NULL", exact=False)
        return self._scalar(column, clause)

    def _scalar(self, column: str, clause: Clause) -> _Part:
        operator, mark = clause.operator, self._dialect.placeholder
        if operator in ("in", "not in"):
            return self._in(column, clause)
        if operator == "between":
            low, high = map(self._dialect.literal, clause.value)
            return _Part(f"{column} BETWEEN {mark} AND {mark}", (low, high))
        if operator == "starts_with":
            return self._prefix(column, clause.value)
        if operator == "contains":
            return _Part(self._dialect.substring(column), (clause.value,))
        if operator == "like":
            return self._like(column, clause.value)
        if operator == "ilike":
            return _Part(f"{column} IS NOT NULL", exact=False)
        return _Part(f"{column} {_SIGNS[operator]} {mark}", (self._dialect.literal(clause.value),))

    def _in(self, column: str, clause: Clause) -> _Part:
        values = clause.value
        if not values:
            return _NOTHING if clause.operator == "in" else _Part(f"{column} IS NOT NULL")
        sign = clause.operator.upper()
        long = self._dialect.in_list(values) if len(values) > MAX_PLACEHOLDERS else None
        if long is not None:
            return _Part(f"{column} {sign} ({long[0]})", (long[1],))
        marks = ", ".join([self._dialect.placeholder] * len(values))
        return _Part(f"{column} {sign} ({marks})", tuple(map(self._dialect.literal, values)))

    def _prefix(self, column: str, prefix: str) -> _Part:
        mark = self._dialect.placeholder
        if not prefix:
            return _Part(f"{column} IS NOT NULL")
        after = _after(prefix)
        if after is None:
            return _Part(f"{column} >= {mark}", (prefix,))
        return _Part(f"({column} >= {mark} AND {column} < {mark})", (prefix, after), depth=1)

    def _like(self, column: str, pattern: str) -> _Part:
        parts = segments(pattern)
        texts = [literal(p) for p in parts]
        if len(parts) == 1 and texts[0] is not None:
            return _Part(f"{column} = {self._dialect.placeholder}", (texts[0],))
        if len(parts) == 2 and texts[0] is not None and not parts[1]:
            return self._prefix(column, texts[0])
        if len(parts) == 3 and texts[1] and not parts[0] and not parts[2]:
            return _Part(self._dialect.substring(column), (texts[1],))
        bound = self._prefix(column, literal_prefix(pattern))
        return _Part(bound.text, bound.params, exact=False, depth=bound.depth)


_SCALARS = frozenset(
    {ColumnType.STRING, ColumnType.INT, ColumnType.FLOAT, ColumnType.BOOL, ColumnType.TIMESTAMP}
)
_SIGNS = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


def _after(prefix: str) -> str | None:
    """The least text above everything that begins with `prefix`, in code point order; None: there is none."""
    head = prefix.rstrip(_LAST)
    if not head:
        return None
    following = ord(head[-1]) + 1
    return head[:-1] + chr(0xE000 if following == 0xD800 else following)


def _complement(part: _Part) -> _Part:
    if not part.text:
        return _NOTHING
    if part is _NOTHING:
        return _Part("")
    # NOT would leave rows out for which the inner text is null.
    return _Part(f"({part.text}) IS NOT TRUE", part.params, depth=part.depth + 1)


def _join(op: str, parts: Sequence[_Part]) -> _Part:
    exact = all(p.exact for p in parts)
    if op == "OR" and any(not p.text for p in parts):
        return _Part("", exact=exact)
    # Deepest first: an engine's parser then holds one open parenthesis a level, not a whole unfinished chain.
    said = sorted((p for p in parts if p.text), key=lambda p: -p.depth)
    if not said:
        return _Part("" if op == "AND" else "FALSE", exact=exact)
    if len(said) == 1:
        return _Part(said[0].text, said[0].params, exact, said[0].depth)
    joined = _balanced(op, said)
    return _Part(f"({joined.text})", joined.params, exact, joined.depth + 1)


def _balanced(op: str, parts: Sequence[_Part]) -> _Part:
    if len(parts) <= _MAX_FLAT:
        params = tuple(p for part in parts for p in part.params)
        return _Part(f" {op} ".join(p.text for p in parts), params, depth=max(p.depth for p in parts))
    half = len(parts) // 2
    left, right = _balanced(op, parts[:half]), _balanced(op, parts[half:])
    depth = max(left.depth, right.depth) + 1
    return _Part(f"({left.text}) {op} ({right.text})", left.params + right.params, depth=depth)
