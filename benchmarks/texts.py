"""Real texts, at hand everywhere: docstrings and comments of installed Python code."""

from __future__ import annotations

import ast
import io
import re
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

_WORD = re.compile(r"[A-Za-z]{2,}")
_MAX_WORDS = 12


def _sources() -> Iterator[str]:
    library, packages = (Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib"))
    files = (
        sorted(library.glob("*.py")) + sorted(library.glob("[a-z]*/**/*.py")) + sorted(packages.rglob("*.py"))
    )
    for file in dict.fromkeys(files):
        try:
            yield file.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue


def docstrings(count: int) -> list[str]:
    """`count` different docstrings, in the order of their files."""
    found: dict[str, None] = {}
    for source in _sources():
        for text in _docstrings(source):
            found[text] = None
        if len(found) >= count:
            break
    return list(found)[:count]


def _docstrings(source: str) -> list[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    nodes = (n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.Module)))
    return [text for node in nodes if (text := ast.get_docstring(node))]


def phrases(count: int) -> list[str]:
    """`count` different phrases of 4 to 12 words, from docstrings and comments."""
    found: dict[str, None] = {}
    for source in _sources():
        for text in [*_docstrings(source), *_comments(source)]:
            for sentence in re.split(r"[.!?:;]\s|\n\s*\n", text):
                words = sentence.split()[:_MAX_WORDS]
                if len(_WORD.findall(" ".join(words))) >= 4:
                    found[" ".join(words)] = None
        if len(found) >= count:
            break
    return list(found)[:count]


def _comments(source: str) -> list[str]:
    try:
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        return [t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT]
    except (tokenize.TokenError, SyntaxError):
        return []
