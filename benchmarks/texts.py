"""Real texts of mixed length, at hand everywhere: docstrings of the standard library."""

from __future__ import annotations

import ast
import sysconfig
from pathlib import Path


def docstrings(count: int) -> list[str]:
    """`count` different docstrings, in the order of their files."""
    found: dict[str, None] = {}
    root = Path(sysconfig.get_path("stdlib"))
    for file in sorted(root.glob("*.py")) + sorted(root.glob("[a-z]*/*.py")):
        if "site-packages" in file.parts or "test" in file.parts:
            continue
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)):
                text = ast.get_docstring(node)
                if text:
                    found[text] = None
        if len(found) >= count:
            break
    return list(found)[:count]
