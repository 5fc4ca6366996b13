"""The words of a filter's text, by sqlglot's tokenizer. Imported only when a filter is given as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from sqlglot import TokenError, Tokenizer, TokenType

from vectable.errors import InvalidFilter


class _FilterTokenizer(Tokenizer):
    """Without SQL's keywords, so that a column may be called `order` or `show`."""

    KEYWORDS: ClassVar[dict[str, TokenType]] = {
        "<>": TokenType.NEQ,
        "!=": TokenType.NEQ,
        "==": TokenType.EQ,
        "<=": TokenType.LTE,
        ">=": TokenType.GTE,
    }
    COMMANDS: ClassVar[set[TokenType]] = set()


Kind = Literal["word", "quoted", "text", "number", "sign"]
_KINDS: dict[TokenType, Kind] = {
    TokenType.VAR: "word",
    TokenType.IDENTIFIER: "quoted",
    TokenType.STRING: "text",
    TokenType.NUMBER: "number",
}


@dataclass(frozen=True, slots=True)
class Word:
    """`text` is unescaped for quoted words and texts; `start` counts characters from 0."""

    kind: Kind
    text: str
    start: int


def words(sql: str) -> list[Word]:
    """The words of `sql`, comments left out. Raises InvalidFilter for an unclosed quote."""
    try:
        tokens = _FilterTokenizer().tokenize(sql)
    except TokenError:
        raise InvalidFilter(
            "the filter's text cannot be read", hint="is a quote left open? '' writes a quote in a text"
        ) from None
    return [Word(_KINDS.get(t.token_type, "sign"), t.text, t.start) for t in tokens]
