"""Filters as parameterised SQL. What SQL cannot say exactly is said as a superset (at worst TRUE), and the
rest is handed back as the residual: the part the caller must still check on every row.

Storage the texts rely on: string TEXT compared by bytes, int INTEGER, float REAL, bool and timestamp as the
dialect's literals, null always SQL's NULL (of JSON, list, image and vector columns too).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vectable.backends.compile.dialects import (
    DIALECTS,
    POSTGRES,
    POSTGRES_FOREIGN,
    SQLITE,
    Dialect,
)
from vectable.backends.compile.parts import (
    EVERYTHING,
    MARK,
    NOTHING,
    Part,
    complement,
    join,
    numbered,
    present,
)
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
from vectable.core.schema import LIST_TYPES, ColumnType, Table

__all__ = [
    "DIALECTS",
    "POSTGRES",
    "POSTGRES_FOREIGN",
    "SQLITE",
    "ColumnSql",
    "Compiled",
    "Dialect",
    "compile_sql",
    "residual",
]

ColumnSql = Callable[[Target], str | None]
"""The expression that yields a target's stored value; None where the engine cannot reach it."""

_LAST = chr(0x10FFFF)


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
    predicate: Predicate, table: Table, column_sql: ColumnSql, dialect: Dialect = SQLITE, start: int = 1
) -> Compiled:
    """A bound predicate as SQL and residual; numbered placeholders begin with `start`. Of an `and`, only the
    conjuncts that are not exact stay in the residual. Falls back to TRUE where the text would need more
    parameters than the engine takes."""
    compiler = _Compiler(table, column_sql, dialect)
    conjuncts: tuple[Predicate, ...] = (predicate,)
    if isinstance(predicate, Combination) and predicate.op == "and":
        conjuncts = predicate.args
    parts = [(c, compiler.part(c)) for c in conjuncts]
    residual = [c for c, part in parts if not part.exact]
    whole = join("AND", [part for _, part in parts])
    if len(whole.params) > dialect.max_parameters:
        return Compiled("TRUE", (), predicate)
    text = numbered(whole.text or "TRUE", dialect.placeholder, start)
    return Compiled(text, whole.params, and_(residual) if residual else None)


def residual(
    predicate: Predicate, table: Table, column_sql: ColumnSql, dialect: Dialect = SQLITE
) -> Predicate | None:
    """What `compile_sql` leaves to the caller; None when nothing."""
    return compile_sql(predicate, table, column_sql, dialect).residual


class _Compiler:
    def __init__(self, table: Table, column_sql: ColumnSql, dialect: Dialect) -> None:
        self._table = table
        self._column_sql = column_sql
        self._dialect = dialect
        self._indexed = {i.column for i in table.indexes if i.type != "vector"}

    def part(self, node: Predicate) -> Part:
        if isinstance(node, Clause):
            return self._clause(node)
        if isinstance(node, Negation):
            return self._negation(node.arg)
        return join(node.op.upper(), [self.part(arg) for arg in node.args])

    def _negation(self, arg: Predicate) -> Part:
        inner = self.part(arg)
        if inner.exact:
            return complement(inner)
        if not isinstance(arg, Combination):
            return EVERYTHING
        # The complement of a superset is no superset; but de Morgan lets the exact members be pushed.
        members = [self.part(not_(a)) for a in arg.args]
        return join("OR" if arg.op == "and" else "AND", members)

    def _clause(self, clause: Clause) -> Part:
        target = resolve(clause.column, self._table)
        if target.type in (ColumnType.INT, ColumnType.FLOAT) and clause.value is not None:
            folded = fold_number(clause, target.type is ColumnType.INT)
            if not isinstance(folded, Clause):
                return self.part(folded)
            clause = folded
        column = self._column_sql(Target(target.column) if target.path else target)
        if column is None:
            return EVERYTHING
        if target.type is ColumnType.JSON:
            said = self._dialect.json(column, target, clause, target.column.id in self._indexed)
            if said is not None:
                return said
        if target.path:  # whatever is asked of a part, nothing is part of a null
            return present(column, exact=False)
        if clause.operator in ("is null", "is not null"):
            return Part(f"{column} {clause.operator.upper()}")
        if target.type in LIST_TYPES:
            return self._dialect.lists(column, target, clause) or present(column, exact=False)
        if target.type not in _SCALARS:
            return present(column, exact=False)
        return self._scalar(column, clause, target.type)

    def _mark(self, type_: ColumnType, ordered: bool = False) -> str:
        mark = MARK + self._dialect.casts.get(type_, "")
        return mark + self._dialect.by_code_point if ordered and type_ is ColumnType.STRING else mark

    def _scalar(self, column: str, clause: Clause, type_: ColumnType) -> Part:
        operator = clause.operator
        if operator in ("in", "not in"):
            return self._in(column, clause, type_)
        if operator == "between":
            low, high = map(self._dialect.literal, clause.value)
            mark = self._mark(type_, ordered=True)
            if type_ is ColumnType.STRING and self._dialect.by_code_point:
                mark = f"({mark})"  # BETWEEN takes a collation only so
            return Part(f"{column} BETWEEN {mark} AND {mark}", (low, high))
        if operator == "starts_with":
            return self._prefix(column, clause.value)
        if operator == "contains":
            return Part(self._dialect.substring(column), (clause.value,))
        if operator == "like":
            return self._like(column, clause.value)
        if operator == "ilike":
            return self._dialect.ilike(column, clause.value) or present(column, exact=False)
        mark = self._mark(type_, ordered=operator not in ("=", "!="))
        return Part(f"{column} {_SIGNS[operator]} {mark}", (self._dialect.literal(clause.value),))

    def _in(self, column: str, clause: Clause, type_: ColumnType) -> Part:
        values, negated = clause.value, clause.operator == "not in"
        if not values:
            return present(column) if negated else NOTHING
        one = self._dialect.members(column, type_, values, negated)
        if one is not None:
            return one
        marks = ", ".join([self._mark(type_)] * len(values))
        return Part(
            f"{column} {clause.operator.upper()} ({marks})", tuple(map(self._dialect.literal, values))
        )

    def _prefix(self, column: str, prefix: str) -> Part:
        mark = self._mark(ColumnType.STRING, ordered=True)
        if not prefix:
            return present(column)
        after = _after(prefix)
        if after is None:
            return Part(f"{column} >= {mark}", (prefix,))
        return Part(f"({column} >= {mark} AND {column} < {mark})", (prefix, after), depth=1)

    def _like(self, column: str, pattern: str) -> Part:
        parts = segments(pattern)
        texts = [literal(p) for p in parts]
        if len(parts) == 1 and texts[0] is not None:
            return Part(f"{column} = {self._mark(ColumnType.STRING)}", (texts[0],))
        if len(parts) == 2 and texts[0] is not None and not parts[1]:
            return self._prefix(column, texts[0])
        if len(parts) == 3 and texts[1] and not parts[0] and not parts[2]:
            return Part(self._dialect.substring(column), (texts[1],))
        said = self._dialect.like(column, pattern)
        if said is not None:
            return said
        bound = self._prefix(column, literal_prefix(pattern))
        return Part(bound.text, bound.params, exact=False, depth=bound.depth)


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
