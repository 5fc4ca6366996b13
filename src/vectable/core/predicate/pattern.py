"""Patterns of `like` and `ilike`: `%` is any run of characters, `_` any one, `\\` escapes."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

_ANY_ONE = None
_Segment = tuple[str | None, ...]
"""Characters between two `%`; None stands for `_`."""


def fold_case(text: str) -> str:
    """Unicode's simple case folding: each code point becomes one code point ('É' and 'é' both 'é', 'ẞ' and
    'ß' both 'ß'). The length never changes; text is not normalised."""
    folded = text.casefold()
    if len(folded) == len(text):
        return folded
    return "".join(f if len(f := c.casefold()) == 1 else _folded(c) for c in text)


def _folded(character: str) -> str:
    """Of a code point whose full folding is longer: its lower-case form where that is one code point."""
    lower = character.lower()
    return lower if len(lower) == 1 else character


def segments(pattern: str) -> tuple[_Segment, ...]:
    """`pattern` split at its `%`; one segment means there is none."""
    found: list[_Segment] = []
    current: list[str | None] = []
    escaped = False
    for character in pattern:
        if escaped or character not in "\\%_":
            current.append(character)
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == "_":
            current.append(_ANY_ONE)
        else:
            found.append(tuple(current))
            current = []
    return (*found, tuple(current))


def literal(segment: _Segment) -> str | None:
    """The text of a segment without `_`, else None."""
    texts = [c for c in segment if c is not None]
    return "".join(texts) if len(texts) == len(segment) else None


def literal_prefix(pattern: str) -> str:
    """The text every match begins with."""
    first = segments(pattern)[0]
    end = next((i for i, c in enumerate(first) if c is None), len(first))
    return "".join(c for c in first[:end] if c is not None)


@lru_cache(maxsize=256)
def like_test(pattern: str) -> Callable[[str], bool]:
    """Whether a whole text matches. Time grows with text times pattern at worst, never exponentially: between
    two `%` the leftmost fit is always good enough, so nothing is ever tried twice."""
    first, *rest = segments(pattern)
    if not rest:
        return _anchored(first, whole=True)
    *middle, last = rest
    begins, searches = _anchored(first, whole=False), [_search(m) for m in middle if m]
    ends = _anchored(last, whole=True)
    head, tail = len(first), len(last)

    def test(text: str) -> bool:
        end = len(text) - tail
        if end < head or not begins(text):
            return False
        at: int = head
        for search in searches:
            at = search(text, at, end)
            if at < 0:
                return False
        return not tail or ends(text[end:])

    return test


def _regex(segment: _Segment) -> re.Pattern[str]:
    return re.compile("".join("." if c is None else re.escape(c) for c in segment), re.DOTALL)


def _anchored(segment: _Segment, whole: bool) -> Callable[[str], bool]:
    text = literal(segment)
    if text is not None:
        return text.__eq__ if whole else lambda value: value.startswith(text)
    match = _regex(segment).fullmatch if whole else _regex(segment).match
    return lambda value: match(value) is not None


def _search(segment: _Segment) -> Callable[[str, int, int], int]:
    """The end of the leftmost fit within [start, end), or -1."""
    text = literal(segment)
    if text is not None:
        size = len(text)

        def find(value: str, start: int, end: int) -> int:
            at = value.find(text, start, end)
            return at + size if at >= 0 else -1

        return find
    pattern = _regex(segment)

    def search(value: str, start: int, end: int) -> int:
        found = pattern.search(value, start, end)
        return found.end() if found else -1

    return search
