"""Documentation as text to embed, and how good it is."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_TEACHES = 600
"""Characters of documentation kept: what comes first says what a thing does, and a model reads 256 tokens."""
QUALITY_RULE = """\
quality_score is 0 for what has no documentation, else the sum of:
  0-4  length: 5, 15, 40, 100 words or more
  2    an example (">>>", or the word "example")
  0-2  its parameters are named: some, or all of them
  1    what it returns, yields or raises is said
  1    the first line is a sentence of its own"""
_LENGTHS = (5, 15, 40, 100)
_EXAMPLE = re.compile(r">>>|\b(examples?|e\.g\.|usage)\b", re.IGNORECASE)
_OUTCOME = re.compile(r"\b(returns?|returned|yields?|raises?|raised)\b|->", re.IGNORECASE)
_RULE_LINE = re.compile(r"[-=~*#_.+\s]*")
_SENTENCE_END = re.compile(r"[.!?:](?=\s|$)")


def quality(text: str, parameters: Sequence[str]) -> int:
    """0 to 10 by QUALITY_RULE. `parameters`: the names a caller gives, without self."""
    words = len(text.split())
    if words == 0:
        return 0
    score = sum(words >= least for least in _LENGTHS)
    score += 2 * bool(_EXAMPLE.search(text))
    score += _named(text, parameters)
    score += bool(_OUTCOME.search(text))
    first = text.split("\n", 1)[0].rstrip()
    return score + (first.endswith((".", "!")) and len(first.split()) >= 3)


def _named(text: str, parameters: Sequence[str]) -> int:
    if not parameters:
        return 0
    known = set(re.findall(r"\w+", text))
    found = sum(name in known for name in parameters)
    return 2 if found == len(parameters) else int(found > 0)


def teach(text: str, limit: int = MAX_TEACHES) -> str:
    """`text` in at most `limit` characters: paragraphs kept, ruled lines left out, cut at the end of a
    sentence where one is near, else at a word."""
    lines = [" ".join(line.split()) for line in text.replace("\0", "").splitlines()]
    kept = [line for line in lines if not line or not _RULE_LINE.fullmatch(line)]
    clean = re.sub(r"\n{2,}", "\n", "\n".join(kept)).strip()
    clean = clean.encode("utf-8", "replace").decode("utf-8")
    if len(clean) <= limit:
        return clean
    head = clean[: limit - 1]
    ends = [m.end() for m in _SENTENCE_END.finditer(head)]
    if ends and ends[-1] >= limit // 2:
        return head[: ends[-1]]
    return head.rpartition(" ")[0].rstrip() + "…"
