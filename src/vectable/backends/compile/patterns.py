"""Patterns of `like` and `ilike` in the forms engines take: escaped LIKE texts and regular expressions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vectable.core.predicate.pattern import fold_case, segments

MAX_REGULAR = 500
"""Characters of a pattern; engines limit how large a regular expression may become."""
_SPECIAL = re.compile(r"[^\w\s]", re.ASCII)
_FOLDING_TO_ASCII = {"k": "\u212a", "s": "\u017f"}
"""Besides the capital letters, these alone fold to ASCII."""


@dataclass(frozen=True, slots=True)
class RegularExpression:
    """In PostgreSQL's advanced syntax, anchored. Not `exact`: it matches every text meant and some others."""

    text: str
    exact: bool


def like_pattern(pattern: str) -> str:
    """The same pattern for an engine that refuses an escape without a character to escape."""
    return "%".join("".join(_like_character(c) for c in segment) for segment in segments(pattern))


def _like_character(character: str | None) -> str:
    if character is None:
        return "_"
    return f"\\{character}" if character in "\\%_" else character


def regular_expression(pattern: str, ignore_case: bool = True) -> RegularExpression | None:
    """What matches the texts that `ilike` (or `like`) matches; None where it would be too long."""
    if len(pattern) > MAX_REGULAR:
        return None
    exact, said = True, []
    for segment in segments(pattern):
        characters = [_character(c, ignore_case) for c in segment]
        exact = exact and None not in characters
        said.append("".join("." if c is None else c for c in characters))
    return RegularExpression("^" + ".*".join(said) + "$", exact)


def _character(character: str | None, ignore_case: bool) -> str | None:
    """One character as an expression; None where any will have to do."""
    if character is None:
        return "."
    if not ignore_case:
        return _escaped(character)
    folded = fold_case(character)
    if not folded.isascii():
        return None
    if not folded.isalpha():
        return _escaped(character)
    return f"[{folded}{folded.upper()}{_FOLDING_TO_ASCII.get(folded, '')}]"


def _escaped(character: str) -> str:
    return f"\\{character}" if character.isascii() and _SPECIAL.match(character) else character
