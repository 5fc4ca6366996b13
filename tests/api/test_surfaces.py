"""Both surfaces, and the package's door: the same names and parameters, documented, cheap to import."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any, get_type_hints

import pytest

import vectable
from vectable.blocking import Database, Embedder, Table, TableQuery, connect, copy
from vectable.handles import (
    AsyncDatabase,
    AsyncEmbedder,
    AsyncTable,
    AsyncTableQuery,
    connect_async,
    copy_async,
)

PAIRS = [
    (AsyncDatabase, Database),
    (AsyncTable, Table),
    (AsyncTableQuery, TableQuery),
    (AsyncEmbedder, Embedder),
]
ONLY_ASYNC = {AsyncDatabase: {"engine"}}
"""`engine` is what the async handles are over; it must not be used from other threads."""


def public(class_: type[Any]) -> dict[str, Any]:
    return {n: inspect.getattr_static(class_, n) for n in dir(class_) if not n.startswith("_")}


@pytest.mark.parametrize(("twin", "mirror"), PAIRS)
def test_both_surfaces_have_the_same_names(twin: type[Any], mirror: type[Any]) -> None:
    assert set(public(twin)) - ONLY_ASYNC.get(twin, set()) == set(public(mirror))


@pytest.mark.parametrize(("twin", "mirror"), PAIRS)
def test_both_surfaces_have_the_same_parameters(twin: type[Any], mirror: type[Any]) -> None:
    for name, member in public(mirror).items():
        if not inspect.isfunction(member):
            continue
        ours = inspect.signature(member).parameters
        theirs = inspect.signature(getattr(twin, name)).parameters
        assert ours == theirs, f"{mirror.__name__}.{name}"


@pytest.mark.parametrize(("twin", "mirror"), [(connect_async, connect), (copy_async, copy)])
def test_functions_take_the_same_parameters_and_are_documented(twin: Any, mirror: Any) -> None:
    assert inspect.signature(mirror).parameters == inspect.signature(twin).parameters
    assert inspect.getdoc(mirror) == inspect.getdoc(twin)


@pytest.mark.parametrize("class_", [c for pair in PAIRS for c in pair])
def test_everything_public_is_documented(class_: type[Any]) -> None:
    for name, member in public(class_).items():
        assert inspect.getdoc(member), f"{class_.__name__}.{name}"


@pytest.mark.parametrize(("twin", "mirror"), PAIRS)
def test_the_mirror_only_waits(twin: type[Any], mirror: type[Any]) -> None:
    """Methods of the synchronous classes are one statement: no logic of their own."""
    import ast
    import textwrap

    for name, member in vars(mirror).items():
        if name.startswith("_") or not inspect.isfunction(member) or name == "close":
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(member))).body
        assert isinstance(definition, ast.FunctionDef)
        assert len(definition.body) == 1, f"{mirror.__name__}.{name}"


def test_annotations_can_be_read() -> None:
    from vectable.engine.jobs import Job
    from vectable.interfaces import ModelCard, Purpose

    names = {"Job": Job, "ModelCard": ModelCard, "Purpose": Purpose, "Engine": Any}
    for pair in PAIRS:
        for class_ in pair:
            for member in public(class_).values():
                if inspect.isfunction(member):
                    get_type_hints(member, localns=names)


def test_the_package_offers_what_it_lists() -> None:
    for name in vectable.__all__:
        assert getattr(vectable, name) is not None
    assert set(vectable.__all__) <= set(dir(vectable))
    with pytest.raises(AttributeError, match="has no attribute 'conect'"):
        vectable.conect  # noqa: B018
    assert vectable.__version__.count(".") == 2


def test_importing_loads_nothing_heavy() -> None:
    script = """
import sys
import vectable
print(*sorted(m for m in ("numpy", "pydantic", "asyncio", "vectable.errors") if m in sys.modules))
from vectable import connect, connect_async
heavy = "vectable.engine vectable.backends".split()
heavy += "faiss pyarrow onnxruntime tokenizers sqlglot fastapi pandas polars rich onnx".split()
print(*sorted(m for m in heavy if m in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "\n\n"


def test_the_examples_of_the_package_are_true() -> None:
    import doctest

    found = doctest.testmod(vectable)
    assert found.attempted >= 5
    assert found.failed == 0
