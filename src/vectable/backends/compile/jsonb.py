"""Clauses over jsonb, for PostgreSQL: equality by jsonb's own, order and texts by strict SQL/JSON paths.

Strict paths take neither an object's member by position nor an array apart, and their comparisons of values
of different kinds hold for nothing: as `core.evaluate` has it. Numbers are decimals there. A float we wrote
has the shortest decimal that reads back as it, so floats compare as they do here; an integer compares with a
float rightly up to 2**53, beyond which a literal only nominates.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from vectable.backends.compile.parts import MARK, Part, join
from vectable.backends.compile.patterns import MAX_REGULAR, RegularExpression, regular_expression
from vectable.core.predicate import Clause, PathStep, Target
from vectable.core.predicate.pattern import literal, segments

_EXACT = 1 << 53
_NULL = "'null'::jsonb"
_VALUE = f"{MARK}::text::jsonb"
_NUMBER, _TEXT = '@.type() == "number"', '@.type() == "string"'
_SIGNS = {"<": "<", "<=": "<=", ">": ">", ">=": ">="}


def clause(column: str, target: Target, clause: Clause, indexed: bool) -> Part:
    """`clause` over jsonb that holds what we wrote. `indexed`: a GIN index over the column may serve."""
    return _Json(column, target.path, indexed, foreign=False).part(clause)


def foreign_clause(column: str, target: Target, clause: Clause, indexed: bool) -> Part:
    """`clause` over jsonb of others: its numbers may be read as other floats than they compare as."""
    return _Json(column, target.path, indexed, foreign=True).part(clause)


class _Json:
    def __init__(self, column: str, path: Sequence[PathStep], indexed: bool, foreign: bool) -> None:
        self._column, self._path, self._indexed, self._foreign = column, path, indexed, foreign
        self._at = "strict $" + "".join(map(_step, path))
        steps = "".join(f" -> {MARK}::text" if isinstance(s, str) else f" -> {s}" for s in path)
        self._value = f"({column}{steps})" if path else column
        self._keys = tuple(s for s in path if isinstance(s, str))
        if any(step == 0 and isinstance(step, int) for step in path):
            # jsonb takes a scalar for an array of one member: there, `-> 0` finds what is no member.
            self._value = f"jsonb_path_query_first({column}, {MARK}::text::jsonpath, '{{}}', TRUE)"
            self._keys = (self._at,)

    def part(self, clause: Clause) -> Part:
        operator, value = clause.operator, clause.value
        if operator in ("is null", "is not null"):
            return self._null(operator == "is null")
        if operator in ("=", "in"):
            return self._equal((value,) if operator == "=" else value)
        if operator in ("!=", "not in"):
            return self._unequal((value,) if operator == "!=" else value)
        if operator == "contains":
            return self._contains(value)
        if operator in ("like", "ilike"):
            return self._like(value, operator == "ilike")
        if operator == "starts_with":
            return self._where(f"@ starts with {_json(value)}")
        if operator == "between":
            low, high = value
            return join("AND", [self._ordered(">=", low), self._ordered("<=", high)])
        return self._ordered(operator, value)

    def _null(self, null: bool) -> Part:
        if not self._path:
            return Part(f"{self._column} IS {'' if null else 'NOT '}NULL")
        return Part(f"{self._value} {'=' if null else '<>'} {_NULL}", self._keys)

    def _there(self) -> Part:
        return Part(f"{self._value} IS NOT NULL", self._keys, exact=False)

    def _equal(self, values: Sequence[Any]) -> Part:
        if not all(map(self._comparable, values)):
            return self._near(values[0]) if len(values) == 1 else self._there()
        if len(values) == 1:
            same = Part(f"{self._value} = {_VALUE}", (*self._keys, _json(values[0])))
        else:
            same = Part(
                f"{self._value} = ANY ({MARK}::text[]::jsonb[])", (*self._keys, [*map(_json, values)])
            )
        if not self._indexed:
            return same
        # Implied, for the index over the whole column: it finds what contains the value somewhere like this.
        nested = [_json(_nested(self._path, value)) for value in values]
        if len(nested) == 1:
            return join("AND", [Part(f"{self._column} @> {_VALUE}", (nested[0],)), same])
        return join("AND", [Part(f"{self._column} @> ANY ({MARK}::text[]::jsonb[])", (nested,)), same])

    def _unequal(self, values: Sequence[Any]) -> Part:
        if not all(map(self._comparable, values)):
            return self._there()
        others = [*map(_json, values), "null"]
        return Part(f"{self._value} <> ALL ({MARK}::text[]::jsonb[])", (*self._keys, others))

    def _ordered(self, sign: str, value: Any) -> Part:
        if isinstance(value, str):
            return self._where(f"@ {sign} {_json(value)}")
        if not _small(value):
            return self._where(_NUMBER, exact=False)
        if not self._foreign:
            return self._where(f"@ {_SIGNS[sign]} {_json(value)}")
        beyond = math.nextafter(float(value), math.inf if sign in ("<", "<=") else -math.inf)
        return self._where(f"@ {sign[0]}= {_json(beyond)}", exact=False)

    def _near(self, value: Any) -> Part:
        """A superset of what equals `value`."""
        if isinstance(value, (Mapping, list, tuple)) or not _small(value):
            return self._there()
        return join("AND", [self._ordered(">=", value), self._ordered("<=", value)])

    def _contains(self, value: Any) -> Part:
        if isinstance(value, (Mapping, list, tuple)):
            kind = "object" if isinstance(value, Mapping) else "array"
            return self._members(f'@.type() == "{kind}"', exact=False)
        if isinstance(value, str):
            within = self._where(_TEXT, exact=False)
            if len(value) <= MAX_REGULAR:
                holds = f'@ like_regex {_json(value)} flag "q"' if value else _TEXT
                within = self._where(holds)
            return join("OR", [within, self._members(f"@ == {_json(value)}")])
        if not self._comparable(value):
            return self._members(_NUMBER, exact=False)
        return self._members(f"@ == {_json(value)}")

    def _like(self, pattern: str, ignore_case: bool) -> Part:
        parts = segments(pattern)
        text = literal(parts[0]) if len(parts) == 1 else None
        if text is not None and not ignore_case:
            return self._equal((text,))
        found = regular_expression(pattern, ignore_case) or RegularExpression("", exact=False)
        if not found.text:
            return self._where(_TEXT, exact=False)
        return self._where(f'@ like_regex {_json(found.text)} flag "s"', found.exact)

    def _where(self, condition: str, exact: bool = True) -> Part:
        return self._exists(f"{self._at} ? ({condition})", exact)

    def _members(self, condition: str, exact: bool = True) -> Part:
        return self._exists(f"{self._at}[*] ? ({condition})", exact)

    def _exists(self, path: str, exact: bool) -> Part:
        return Part(f"{self._column} @? {MARK}::text::jsonpath", (path,), exact)

    def _comparable(self, value: Any) -> bool:
        """Whether jsonb's equality with `value` is ours."""
        if isinstance(value, Mapping):
            return all(map(self._comparable, value.values()))
        if isinstance(value, (list, tuple)):
            return all(map(self._comparable, value))
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return True
        return not self._foreign and _small(value)


def _small(value: float) -> bool:
    return -_EXACT <= value <= _EXACT


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _step(step: PathStep) -> str:
    return f"[{step}]" if isinstance(step, int) else f".{_json(step)}"


def _nested(path: Sequence[PathStep], value: Any) -> Any:
    for step in reversed(path):
        value = [value] if isinstance(step, int) else {step: value}
    return value
