"""Pieces of a compiled filter: boolean SQL with parameters, put together without losing rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

MARK = "\x00"
"""Where a parameter goes, in order; numbered once the whole text is known. No SQL text holds U+0000."""
_MAX_FLAT = 50
"""A longer and/or is written as a balanced tree: engines limit the depth of expressions."""


@dataclass(frozen=True, slots=True)
class Part:
    """A boolean expression with a `MARK` for each parameter; null counts as false. Not `exact`: it holds for
    every row meant and for some others. `text` "" means TRUE. `depth` counts nested parentheses."""

    text: str
    params: tuple[Any, ...] = ()
    exact: bool = True
    depth: int = field(default=0, compare=False)


EVERYTHING = Part("", exact=False)
NOTHING = Part("FALSE")


def present(column: str, exact: bool = True) -> Part:
    """Rows where `column` is not null."""
    return Part(f"{column} IS NOT NULL", exact=exact)


def numbered(text: str, placeholder: Callable[[int], str], start: int) -> str:
    """`text` with its marks replaced by placeholders, numbered from `start`."""
    first, *rest = text.split(MARK)
    return first + "".join(placeholder(start + i) + piece for i, piece in enumerate(rest))


def complement(part: Part) -> Part:
    """The rows an exact part leaves out."""
    if not part.text:
        return NOTHING
    if part is NOTHING:
        return Part("")
    # NOT would leave rows out for which the inner text is null.
    return Part(f"({part.text}) IS NOT TRUE", part.params, depth=part.depth + 1)


def join(op: str, parts: Sequence[Part]) -> Part:
    """`parts` joined by AND or OR."""
    exact = all(p.exact for p in parts)
    if op == "OR" and any(not p.text for p in parts):
        return Part("", exact=exact)
    # Deepest first: an engine's parser then holds one open parenthesis a level, not a whole unfinished chain.
    said = sorted((p for p in parts if p.text), key=lambda p: -p.depth)
    if not said:
        return Part("" if op == "AND" else "FALSE", exact=exact)
    if len(said) == 1:
        return Part(said[0].text, said[0].params, exact, said[0].depth)
    joined = _balanced(op, said)
    return Part(f"({joined.text})", joined.params, exact, joined.depth + 1)


def _balanced(op: str, parts: Sequence[Part]) -> Part:
    if len(parts) <= _MAX_FLAT:
        params = tuple(p for part in parts for p in part.params)
        return Part(f" {op} ".join(p.text for p in parts), params, depth=max(p.depth for p in parts))
    half = len(parts) // 2
    left, right = _balanced(op, parts[:half]), _balanced(op, parts[half:])
    depth = max(left.depth, right.depth) + 1
    return Part(f"({left.text}) {op} ({right.text})", left.params + right.params, depth=depth)
