"""What Python source files document, read without running them: importing some of the library has effects."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
MAX_SIGNATURE = 200
"""Characters."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One public thing. `text` is its documentation (empty: none), `parameters` what a caller names,
    `signature` those with their defaults, "(x, y=1)"."""

    name: str
    """Qualified: "json.dumps"."""
    module: str
    kind: str
    """module, class, function or method."""
    file: str
    """Inside CPython's repository: "Lib/json/__init__.py"."""
    line: int | None
    text: str
    parameters: tuple[str, ...] = ()
    signature: str = ""
    language: str = "Python"


def read_module(path: Path, module: str, file: str) -> Iterator[Entry]:
    """The module, then its public classes, functions and methods in order; nothing if it cannot be parsed."""
    try:
        source = path.read_bytes().decode("utf-8")
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError):
        return  # a file for another version of Python, or in another encoding: one module less
    text = ast.get_docstring(tree) or ""
    yield Entry(module, module, "module", file, 1, text)
    yield from _Reader(module, file, source.splitlines()).inside(tree, module, in_class=False)


class _Reader:
    def __init__(self, module: str, file: str, lines: list[str]) -> None:
        self._module = module
        self._file = file
        self._lines = lines

    def inside(self, node: ast.AST, prefix: str, *, in_class: bool) -> Iterator[Entry]:
        """Definitions in a body, also under `if` and `try`, where versions and platforms are told apart."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Definition):
                if not child.name.startswith("_"):
                    yield from self._definition(child, f"{prefix}.{child.name}", in_class)
            elif isinstance(child, ast.If | ast.Try | ast.With | ast.ExceptHandler):
                yield from self.inside(child, prefix, in_class=in_class)

    def _definition(self, node: Definition, name: str, in_class: bool) -> Iterator[Entry]:
        text = ast.get_docstring(node) or self._comment(node)
        is_class = isinstance(node, ast.ClassDef)
        call = _constructor(node) if isinstance(node, ast.ClassDef) else node
        parameters, signature = _signature(call, bound=in_class or is_class)
        kind = "class" if is_class else "method" if in_class else "function"
        yield Entry(name, self._module, kind, self._file, node.lineno, text, parameters, signature)
        if is_class:
            yield from self.inside(node, name, in_class=True)

    def _comment(self, node: Definition) -> str:
        """The comment lines right above: how older modules document."""
        at = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 2
        found: list[str] = []
        while at >= 0 and (line := self._lines[at].strip()).startswith("#"):
            found.append(line.lstrip("#!: ").rstrip("# "))
            at -= 1
        return "\n".join(reversed(found)).strip() if any(c.isalpha() for c in "".join(found)) else ""


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    for child in node.body:
        if isinstance(child, ast.FunctionDef) and child.name == "__init__":
            return child
    return None


def _signature(
    node: ast.FunctionDef | ast.AsyncFunctionDef | None, *, bound: bool
) -> tuple[tuple[str, ...], str]:
    if node is None:
        return (), ""
    decorators = {d.id for d in node.decorator_list if isinstance(d, ast.Name)}
    if "property" in decorators:
        return (), ""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    named = [a.arg for a in (*positional, *arguments.kwonlyargs)]
    skip = 1 if bound and positional and "staticmethod" not in decorators else 0
    parts = ast.unparse(arguments).split(", ", skip)
    return tuple(named[skip:]), short(f"({parts[skip] if len(parts) > skip else ''})")


def short(signature: str) -> str:
    """A signature that fits a line."""
    return (
        signature if len(signature) <= MAX_SIGNATURE else signature[: MAX_SIGNATURE - 2].rstrip(", ") + "…)"
    )
