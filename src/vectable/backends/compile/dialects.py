"""What differs between SQL engines where a filter is written out."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vectable.backends.compile import jsonb, lists
from vectable.backends.compile.parts import MARK, Part, present
from vectable.backends.compile.patterns import like_pattern, regular_expression
from vectable.core.key import timestamp_micros
from vectable.core.predicate import Clause, Target
from vectable.core.schema import ColumnType

Members = Callable[[str, ColumnType, Sequence[Any], bool], Part | None]
"""(column, type, values, negated) as one parameter; None where that would not be exact, or not be better."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """An engine's spelling. Texts hold `parts.MARK` where a parameter goes. Where a function may answer None,
    the compiler falls back to what every engine says, in the end to a superset."""

    name: str
    placeholder: Callable[[int], str]
    """The n-th parameter, counted from 1."""
    literal: Callable[[Any], Any]
    """A value as the driver takes it for a parameter."""
    substring: Callable[[str], str]
    """Text that is true where the column contains the parameter, by code points."""
    members: Members
    max_parameters: int
    casts: Mapping[ColumnType, str] = field(default_factory=dict)
    """What follows a parameter compared with a column of that type."""
    by_code_point: str = ""
    """What makes a comparison of texts with a parameter go by code points."""
    like: Callable[[str, str], Part | None] = lambda column, pattern: None
    ilike: Callable[[str, str], Part | None] = lambda column, pattern: None
    json: Callable[[str, Target, Clause, bool], Part | None] = lambda column, target, clause, indexed: None
    """A clause over a JSON column or a path into it; `indexed`: there is an index over the whole column."""
    lists: Callable[[str, Target, Clause], Part | None] = lambda column, target, clause: None


def _sqlite_literal(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    return timestamp_micros(value) if isinstance(value, dt.datetime) else value


_MAX_MARKS = 500
"""A longer `in` list travels as one parameter to SQLite where it can."""


def _sqlite_members(column: str, type_: ColumnType, values: Sequence[Any], negated: bool) -> Part | None:
    # SQLite reads the decimal form of a float with an error in the last digit.
    if len(values) <= _MAX_MARKS or type_ is ColumnType.FLOAT:
        return None
    parameter = json.dumps([_sqlite_literal(v) for v in values], ensure_ascii=False)
    sign = "NOT IN" if negated else "IN"
    return Part(f"{column} {sign} (SELECT value FROM json_each({MARK}))", (parameter,))


SQLITE = Dialect(
    name="sqlite",
    placeholder=lambda n: "?",
    literal=_sqlite_literal,
    substring=lambda column: f"instr({column}, {MARK}) > 0",
    members=_sqlite_members,
    max_parameters=30_000,
)

_POSTGRES_CASTS = {
    # Without them a parameter takes the column's own type, and a literal may not fit a narrower one.
    ColumnType.STRING: "::text",
    ColumnType.INT: "::bigint",
    ColumnType.FLOAT: "::double precision",
    ColumnType.BOOL: "::boolean",
    ColumnType.TIMESTAMP: "::timestamptz",
}


def _postgres_members(column: str, type_: ColumnType, values: Sequence[Any], negated: bool) -> Part:
    # One parameter for lists of any length: one statement to prepare.
    sign = "<> ALL" if negated else "= ANY"
    return Part(f"{column} {sign} ({MARK}{_POSTGRES_CASTS[type_]}[])", (list(values),))


def _postgres_like(column: str, pattern: str) -> Part:
    return Part(f"{column} LIKE {MARK}::text", (like_pattern(pattern),))


def _postgres_ilike(column: str, pattern: str) -> Part:
    found = regular_expression(pattern)
    if found is None:
        return present(column, exact=False)
    return Part(f"{column} ~ {MARK}::text", (found.text,), exact=found.exact)


POSTGRES = Dialect(
    name="postgres",
    placeholder=lambda n: f"${n}",
    literal=lambda value: value,
    substring=lambda column: f"strpos({column}, {MARK}::text) > 0",
    members=_postgres_members,
    max_parameters=30_000,
    casts=_POSTGRES_CASTS,
    by_code_point=' COLLATE "C"',
    like=_postgres_like,
    ilike=_postgres_ilike,
    json=jsonb.clause,
    lists=lists.clause,
)
"""Columns are expressions of text, bigint, double precision, boolean, timestamptz, jsonb (null: SQL's NULL)
and one-dimensional arrays of text, bigint, double precision without null members, holding what we wrote
there. A text of a collation that is not deterministic comes as `(column COLLATE "C")`."""

POSTGRES_FOREIGN = replace(POSTGRES, json=jsonb.foreign_clause, lists=lists.foreign_clause)
"""The same for columns that others write: numbers in jsonb may have more digits than a float is read with,
arrays any shape, so that less of a filter is exact. Narrower number types need no cast."""

DIALECTS = {d.name: d for d in (SQLITE, POSTGRES)}
