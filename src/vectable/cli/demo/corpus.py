"""Rows for `code_layouts`: every public module, class, function and method of the standard library."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vectable.cli.demo.documentation import quality, teach
from vectable.cli.demo.extensions import read_extensions
from vectable.cli.demo.sources import Entry, read_module
from vectable.errors import Unsupported

COLUMNS: dict[str, Any] = {
    "repo_url": "string",
    "title": "string",
    "teaches": "string",
    "quality_score": "int",
    "language": "string",
    "module": "string",
    "kind": "string",
}
_LEFT_OUT = frozenset(
    {"antigravity", "distutils", "idlelib", "lib2to3", "pydoc_data", "test", "this", "turtledemo"}
)
"""Jokes, tests, applications, and what is not in every Python from 3.11 on."""
_NOT_PUBLIC = frozenset({"test", "tests", "idle_test"})
_TABLES = ("encodings",)
"""Packages whose modules are generated tables, alike but for their numbers: the package alone is told."""
_SHOWN_AS = {
    "_collections_abc": "collections.abc",
    "_pydatetime": "datetime",
    "_pydecimal": "decimal",
    "_pyio": "io",
    "pathlib._local": "pathlib",
}
"""Private files that hold what a public module offers."""
_FEWEST = 100


def rows(limit: int | None = None) -> list[dict[str, Any]]:
    """Every row, in an order that does not change; `id` is the qualified name, so it is stable across runs.
    With `limit`, that many spread evenly. Raises Unsupported where Python came without its sources."""
    found: dict[str, dict[str, Any]] = {}
    modules = 0
    for entry in entries():
        modules += entry.kind == "module" and entry.language == "Python"
        found.setdefault(entry.name, _row(entry))
    if modules < _FEWEST:
        raise Unsupported(
            f"this Python came without the sources of its standard library ({_library()})",
            hint="run the demo with a Python that has them: from python.org, your system, pyenv or uv",
        )
    everything = list(found.values())
    if limit is None or limit >= len(everything):
        return everything
    return [everything[i * len(everything) // limit] for i in range(limit)]


def entries() -> Iterator[Entry]:
    """What is documented, C first: where a name is in both, it is the C one that runs."""
    yield from read_extensions()
    root = _library()
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if path.stem in sys.stdlib_module_names and path.stem not in _LEFT_OUT:
            yield from _walk(path, path.stem, root)


def _library() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _walk(path: Path, name: str, root: Path) -> Iterator[Entry]:
    file = path / "__init__.py" if path.is_dir() else path
    if file.suffix != ".py" or not file.is_file():
        return
    shown = _SHOWN_AS.get(name, name)
    if not any(part.startswith("_") for part in shown.split(".")):
        yield from read_module(file, shown, f"Lib/{file.relative_to(root).as_posix()}")
    if path.is_dir() and name not in _TABLES:
        for child in sorted(path.iterdir()):
            if child.stem != "__init__" and child.stem not in _NOT_PUBLIC and child.suffix in ("", ".py"):
                yield from _walk(child, f"{name}.{child.stem}", root)


def _row(entry: Entry) -> dict[str, Any]:
    branch = f"{sys.version_info.major}.{sys.version_info.minor}"
    line = "" if entry.line is None else f"#L{entry.line}"
    return {
        "id": entry.name,
        "repo_url": f"https://github.com/python/cpython/blob/{branch}/{entry.file}{line}",
        "title": entry.name.removeprefix("builtins."),
        "teaches": teach(entry.text) or _undocumented(entry),
        "quality_score": quality(entry.text, entry.parameters),
        "language": entry.language,
        "module": entry.module,
        "kind": entry.kind,
    }


def _undocumented(entry: Entry) -> str:
    """What can be said all the same: its signature, and what it belongs to."""
    owner, _, name = entry.name.rpartition(".")
    return teach(f"{name}{entry.signature}: an undocumented {entry.kind}{f' of {owner}' if owner else ''}.")
