"""Filters as SQL-like text with `?` parameters. sqlglot reads the words; the grammar is ours, so that exactly
what is written here is understood, nesting is bounded, and nothing is ever executed as text.

    filter   = tests { "or" tests }             test = "not" test | "(" filter ")" | "true" | "false"
    tests    = test { "and" test }                   | literal OPERATOR column
    literal  = ? | 'text' | 12 | -0.5 | true         | column OPERATOR literal
    column   = name { "." name | "[" 0 "]" }         | column "is" ["not"] "null"
    name     = word | "quoted"                       | column ["not"] "in" "(" literal { "," literal } ")"
                                                     | column ["not"] "between" literal "and" literal
                                                     | column ["not"] ("like" | "ilike") literal
                                                     | ("contains" | "starts_with") "(" column "," literal ")"

`x not in (…)` is the operator (nulls do not match); every other `not` is the complement (nulls match).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from vectable.core.predicate.columns import format_name
from vectable.core.predicate.nodes import (
    FALSE,
    TRUE,
    Combination,
    Operator,
    Predicate,
    and_,
    not_,
    or_,
)
from vectable.core.predicate.parse import MAX_DEPTH, MAX_NODES, clause
from vectable.core.predicate.reserved import RESERVED
from vectable.errors import InvalidFilter

if TYPE_CHECKING:
    from vectable.core.predicate.tokens import Word

MAX_TEXT_LENGTH = 100_000
_KEPT_LENGTH = 4_000
_HINT = (
    "a filter reads like: quality_score >= ? and (language in (?, ?) or not title like 'A%'); "
    "functions: contains(column, ?), starts_with(column, ?)"
)
_COMPARISONS: dict[str, Operator] = {
    "=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=",
}  # fmt: skip
_FLIPPED: dict[str, Operator] = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_FUNCTIONS: dict[str, Operator] = {
    "contains": "contains",
    "starts_with": "starts_with",
    "startswith": "starts_with",
}
_PATTERNS: tuple[Operator, ...] = ("like", "ilike")
_WORD = re.compile(r"[^\W\d]\w*")
_NUMBER = re.compile(r"\d+(\.\d*)?([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?")
_MAX_DIGITS = 4_000


@dataclass(frozen=True, slots=True)
class _Parameter:
    """Stands for the value of a `?` until the template is filled in."""

    position: int


@dataclass(frozen=True, slots=True)
class _Draft:
    """A clause whose value may hold parameters."""

    column: str
    operator: Operator
    value: Any = None


@dataclass(frozen=True, slots=True)
class _Group:
    op: Literal["and", "or", "not"]
    args: tuple[_Tree, ...]


_Tree: TypeAlias = _Draft | _Group | Combination
"""A Combination here is only ever TRUE or FALSE."""


@dataclass(frozen=True, slots=True)
class _Template:
    root: _Tree
    parameters: int


def parse_text(sql: str, params: tuple[Any, ...]) -> Predicate:
    """The nodes of the filter `sql`, its `?` replaced by `params` in order. Raises InvalidFilter for anything
    the grammar above does not know, and for too few or too many parameters."""
    if len(sql) > MAX_TEXT_LENGTH:
        raise InvalidFilter(
            f"the filter's text is {len(sql)} characters long", hint=f"at most {MAX_TEXT_LENGTH}"
        )
    template = _kept_template(sql) if len(sql) <= _KEPT_LENGTH else _template(sql)
    if template.parameters != len(params):
        raise InvalidFilter(
            f"the filter has {template.parameters} `?` but {len(params)} parameters",
            hint="give one parameter for each `?`",
        )
    return _filled(template.root, params)


def _filled(draft: _Tree, params: tuple[Any, ...]) -> Predicate:
    if isinstance(draft, _Draft):
        return clause(draft.column, draft.operator, _value(draft.value, params))
    if isinstance(draft, _Group):
        if draft.op == "not":
            return not_(_filled(draft.args[0], params))
        return (and_ if draft.op == "and" else or_)(_filled(a, params) for a in draft.args)
    return draft


def _value(value: Any, params: tuple[Any, ...]) -> Any:
    if isinstance(value, tuple):
        return [_value(v, params) for v in value]
    return params[value.position] if isinstance(value, _Parameter) else value


@lru_cache(maxsize=256)
def _kept_template(sql: str) -> _Template:
    return _template(sql)


def _template(sql: str) -> _Template:
    from vectable.core.predicate.tokens import words  # sqlglot costs 0.3 s to import

    reader = _Reader(sql, words(sql))
    if reader.at_end:
        raise InvalidFilter("the filter's text is empty", hint=_HINT)
    root = reader.filter(0)
    if not reader.at_end:
        raise reader.unexpected()
    return _Template(root, reader.parameters)


class _Reader:
    """Recursive descent over the words of one text."""

    def __init__(self, sql: str, words: list[Word]) -> None:
        self._sql = sql
        self._words = words
        self._at = 0
        self._nodes = 0
        self.parameters = 0

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._words)

    def unexpected(self, expected: str | None = None) -> InvalidFilter:
        wanted = f", expected {expected}" if expected else ""
        if self.at_end:
            return InvalidFilter(f"the filter's text breaks off{wanted}", hint=_HINT)
        word = self._words[self._at]
        return InvalidFilter(
            f"the filter's text is not understood at {word.text[:40]!r} (character {word.start + 1}){wanted}",
            hint=_HINT,
        )

    def _is(self, *texts: str) -> bool:
        """Whether the next word is one of `texts`, a keyword or a sign (never a quoted word)."""
        if self.at_end:
            return False
        word = self._words[self._at]
        return word.kind in ("word", "sign") and word.text.lower() in texts

    def _take(self, *texts: str) -> bool:
        found = self._is(*texts)
        self._at += found
        return found

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise self.unexpected(repr(text))

    def filter(self, depth: int) -> _Tree:
        return self._chain("or", lambda: self._chain("and", lambda: self._test(depth)))

    def _chain(self, op: Literal["and", "or"], part: Callable[[], _Tree]) -> _Tree:
        args = [part()]
        while self._take(op):
            args.append(part())
        return args[0] if len(args) == 1 else _Group(op, tuple(args))

    def _test(self, depth: int) -> _Tree:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise InvalidFilter(f"the filter has more than {MAX_NODES} parts", hint="use in (?, ?, …)")
        if depth >= MAX_DEPTH:
            raise InvalidFilter(f"the filter is nested more than {MAX_DEPTH} deep", hint="flatten it")
        if self._take("not"):
            return _Group("not", (self._test(depth + 1),))
        if self._take("("):
            inner = self.filter(depth + 1)
            self._need(")")
            return inner
        if self._calls():
            return self._function()
        if self._starts_literal():
            return self._literal_first()
        return self._condition(self._column())

    def _calls(self) -> bool:
        return (
            self._at + 1 < len(self._words)
            and self._words[self._at].kind == "word"
            and self._words[self._at + 1].text == "("
            and self._words[self._at].text.lower() not in RESERVED
        )

    def _function(self) -> _Draft:
        name = self._words[self._at].text
        operator = _FUNCTIONS.get(name.lower())
        if operator is None:
            raise InvalidFilter(f"unknown function {name[:40]!r}", hint=_HINT)
        self._at += 1
        self._need("(")
        column = self._column()
        self._need(",")
        value = self._literal()
        self._need(")")
        return _Draft(column, operator, value)

    def _literal_first(self) -> _Draft | Combination:
        constant = self._is("true", "false")
        value = self._literal()
        for sign, operator in _COMPARISONS.items():
            if self._take(sign):
                return _Draft(self._column(), _FLIPPED.get(operator, operator), value)
        if constant:
            return TRUE if value else FALSE
        raise self.unexpected("a comparison")

    def _condition(self, column: str) -> _Draft | _Group:
        for sign, operator in _COMPARISONS.items():
            if self._take(sign):
                return _Draft(column, operator, self._literal())
        if self._take("is"):
            negated = self._take("not")
            self._need("null")
            return _Draft(column, "is not null" if negated else "is null")
        negated = self._take("not")
        if self._take("in"):
            return _Draft(column, "not in" if negated else "in", self._list())
        found = self._between_or_like(column)
        return _Group("not", (found,)) if negated else found

    def _between_or_like(self, column: str) -> _Draft:
        if self._take("between"):
            low = self._literal()
            self._need("and")
            return _Draft(column, "between", (low, self._literal()))
        for operator in _PATTERNS:
            if self._take(operator):
                return _Draft(column, operator, self._literal())
        raise self.unexpected("a comparison" if self.at_end else None)

    def _list(self) -> tuple[Any, ...]:
        self._need("(")
        values: list[Any] = []
        if self._take(")"):
            return ()
        while True:
            values.append(self._literal())
            if not self._take(","):
                break
        self._need(")")
        return tuple(values)

    def _starts_literal(self) -> bool:
        kind = None if self.at_end else self._words[self._at].kind
        return kind in ("text", "number") or self._is("?", "-", "+", "true", "false", "null")

    def _literal(self) -> Any:
        if self._take("?"):
            self.parameters += 1
            return _Parameter(self.parameters - 1)
        for name, value in (("true", True), ("false", False), ("null", None)):
            if self._take(name):
                return value
        sign = -1 if self._take("-") else 1
        signed = sign < 0 or self._take("+")
        word = None if self.at_end else self._words[self._at]
        if word is not None and word.kind == "number":
            self._at += 1
            return sign * _number(word.text)
        if word is not None and word.kind == "text" and not signed:
            self._at += 1
            return word.text
        raise self.unexpected("a value: ?, 'text', a number, true or false")

    def _column(self) -> str:
        column = self._name("a column")
        path: list[str | int] = []
        while True:
            if self._take("."):
                path.append(self._name("a key"))
            elif self._take("["):
                path.append(self._position())
                self._need("]")
            else:
                return format_name(column, tuple(path))

    def _name(self, expected: str) -> str:
        word = None if self.at_end else self._words[self._at]
        quoted = word is not None and word.kind == "quoted"
        plain = word is not None and word.kind == "word" and _WORD.fullmatch(word.text)
        if word is None or not word.text or not (quoted or plain):
            raise self.unexpected(expected)
        after_dot = expected == "a key"
        if plain and not after_dot and word.text.lower() in RESERVED:
            raise self.unexpected(expected)
        self._at += 1
        return word.text

    def _position(self) -> str | int:
        word = None if self.at_end else self._words[self._at]
        if word is None or word.kind not in ("number", "text"):
            raise self.unexpected("a position from 0, or 'key'")
        if word.kind == "number" and not (word.text.isdecimal() and len(word.text) < 10):
            raise self.unexpected("a position from 0")
        self._at += 1
        return int(word.text) if word.kind == "number" else word.text


def _number(text: str) -> int | float:
    if not _NUMBER.fullmatch(text) or len(text) > _MAX_DIGITS:
        raise InvalidFilter(
            f"{text[:40]!r} is not a number this filter can hold", hint="write e.g. 12 or 0.5"
        )
    return int(text) if text.isdecimal() else float(text)
