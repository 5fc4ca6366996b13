"""Each dependency is declared once, pinned within its bounds, and used."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PIN_LINES = [
    line
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
# Used without an import of ours: uvicorn picks the loop and the parser by itself, starlette that of forms.
PICKED_UP_BY_ANOTHER = {"uvloop", "httptools", "python-multipart"}
# Parts of a declared package that its own documentation says to import.
COMES_WITH = {"starlette": "fastapi", "pydantic-core": "pydantic"}
OURS = {"vectable", "tests", "benchmarks"}


def requirements(*extras: str) -> list[Requirement]:
    lines = list(PROJECT["dependencies"])
    for extra in extras or PROJECT["optional-dependencies"]:
        lines += PROJECT["optional-dependencies"][extra]
    parsed = [Requirement(line) for line in lines]
    return [each for each in parsed if each.name != PROJECT["name"]]


def imported_packages(folder: str) -> Iterator[tuple[str, str]]:
    """(distribution, file) for each import of something that is neither ours nor the standard library's."""
    distributions = packages_distributions()
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            for module in {name.partition(".")[0] for name in names} - OURS - set(sys.stdlib_module_names):
                found = canonicalize_name(distributions.get(module, [module])[0])
                yield COMES_WITH.get(found, found), str(path.relative_to(ROOT))


def pins() -> dict[str, Version]:
    return {canonicalize_name(name): Version(pin) for name, _, pin in (p.partition("==") for p in PIN_LINES)}


def test_constraints_hold_nothing_but_exact_versions() -> None:
    wrong = [line for line in PIN_LINES if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!+]*", line)]
    assert wrong == []
    assert "://" not in (ROOT / "constraints.txt").read_text("utf-8")
    assert len(PIN_LINES) == len(pins()), "a package is pinned twice"


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_declared_is_bounded_and_pinned_within(requirement: Requirement) -> None:
    operators = {specifier.operator for specifier in requirement.specifier}
    assert operators == {"=="} or (">=" in operators and "<" in operators), "needs a lower and an upper bound"
    pinned = pins().get(canonicalize_name(requirement.name))
    assert pinned is not None, "not pinned in constraints.txt"
    assert requirement.specifier.contains(pinned, prereleases=True)


def test_each_is_declared_once() -> None:
    names = [canonicalize_name(each.name) for each in requirements()]
    assert sorted(names) == sorted(set(names))


_OF_THE_PACKAGE = ("images", "offline-model", "openvino", "pandas", "polars", "sentence-transformers")


def test_the_package_imports_only_what_its_users_get() -> None:
    declared = {
        canonicalize_name(each.name)
        for each in requirements(
            "images", "offline-model", "openvino", "pandas", "polars", "sentence-transformers", "traces"
        )
    }
    # The suites in vectable.testing are for people who have pytest and Hypothesis already.
    undeclared = {
        (package, file)
        for package, file in imported_packages("src")
        if package not in declared and not file.startswith("src/vectable/testing/")
    }
    assert undeclared == set()


def test_tests_import_only_what_is_declared() -> None:
    declared = {canonicalize_name(each.name) for each in requirements()}
    used = set(imported_packages("tests")) | set(imported_packages("src/vectable/testing"))
    assert {(package, file) for package, file in used if package not in declared} == set()


def test_examples_import_only_what_their_extra_gives() -> None:
    declared = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    declared |= {canonicalize_name(each.name) for each in requirements("images", "examples")}
    beside = {file.stem for file in (ROOT / "examples" / "python").glob("*.py")}
    used = {(package, file) for package, file in imported_packages("examples") if package not in beside}
    assert {(package, file) for package, file in used if package not in declared} == set()


def test_nothing_is_required_for_no_use() -> None:
    required = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    used = {package for package, _ in imported_packages("src")}
    assert required - used - PICKED_UP_BY_ANOTHER == set()
