"""Which tests of the engine run on PostgreSQL too; the others say here why they need not."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from tests.engine.conftest import KINDS
from tests.engine.searching import BACKENDS

HERE = Path(__file__).parent
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
RESIDENT = "about what is made of rows in memory, once they are there: no backend takes part in it"
SIZES = "the sizes are for the paths over rows in memory; test_search_pages and _oracle go to the backend"
NOT_ON_POSTGRES = {
    "test_search_codes": RESIDENT,
    "test_search_filter_codes": RESIDENT,
    "test_search_index_trust": RESIDENT,
    "test_resident_files::test_a_base_that_cannot_be_trusted_is_made_anew": RESIDENT,
    "test_resident_files::test_a_fast_scan_is_kept_beside_its_base": RESIDENT,
    "test_resident_files::test_a_directory_that_cannot_be_written_only_costs_time": RESIDENT,
    "test_resident_files::test_files_of_versions_that_are_gone_are_swept": RESIDENT,
    "test_resident_budget::test_rows_that_outgrow_the_budget_are_given_up": RESIDENT,
    "test_resident_budget::test_searchers_of_one_directory_share_what_is_held": RESIDENT,
    "test_search_concurrent::test_many_searches_at_once_while_a_thread_writes": (
        "about threads that search at once, which only backends that never suspend have"
    ),
    "test_search_concurrent::test_a_program_that_searches_and_leaves_does_not_wait_for_builds": RESIDENT,
    "test_search_pages::test_a_deadline_ends_a_long_scan": "the clock is the test's, the scan the engine's",
    "test_search_sizes::test_filters_limits_and_thresholds_at_ten_thousand_rows": SIZES,
    "test_search_sizes::test_after_deleting_most_rows_and_many_small_writes": SIZES,
    "test_search_sizes::test_one_row_and_none": SIZES,
    "test_search_sizes::test_exact_and_index_none_never_take_an_approximate_path": RESIDENT,
    "test_search_sizes::test_a_hundred_thousand_rows_through_the_fast_scan": RESIDENT,
    "test_search_sizes::test_named_indexes_serve_full_pages_and_tell_their_recall": RESIDENT,
}


def test_every_test_runs_on_postgres_or_says_why_not() -> None:
    assert "postgres" in KINDS
    assert "postgres" in BACKENDS
    elsewhere = {name for name, runs in _tests() if not runs}
    modules = {name.partition("::")[0] for name, runs in _tests() if runs}
    declared = {name for name in NOT_ON_POSTGRES if "::" in name}
    for module in NOT_ON_POSTGRES.keys() - declared:
        assert module not in modules, f"some tests of {module} run on PostgreSQL: name the others singly"
        declared |= {name for name in elsewhere if name.startswith(f"{module}::")}
    assert elsewhere == declared


def _tests() -> Iterator[tuple[str, bool]]:
    """Every test of this folder that has storage under it, and whether PostgreSQL is one of its kinds."""
    shared = _functions(HERE / "conftest.py")
    for path in sorted(HERE.glob("test_*.py")):
        functions = {**shared, **_functions(path)}
        for name, function in _functions(path).items():
            stored = _has(function, functions, _opens) or _has(function, functions, _takes_kind)
            if name.startswith("test_") and stored:
                takes = _has(function, functions, _takes_kind) and _allows(function)
                runs = takes or _has(function, functions, _takes_server)
                yield f"{path.stem}::{name}", runs


def _functions(path: Path) -> dict[str, Function]:
    body = ast.parse(path.read_text()).body
    return {f.name: f for f in body if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)}


def _has(function: Function, functions: dict[str, Function], wanted: Callable[[Function], bool]) -> bool:
    """Whether the function, or a fixture behind it, is as wanted."""
    fixtures = [functions[a.arg] for a in function.args.args if a.arg in functions]
    return wanted(function) or any(_has(fixture, functions, wanted) for fixture in fixtures)


def _takes_kind(function: Function) -> bool:
    return any(a.arg == "kind" for a in function.args.args)


def _takes_server(function: Function) -> bool:
    return any(a.arg == "postgres_url" for a in function.args.args)


def _opens(function: Function) -> bool:
    return bool(re.search(r"\b(opened|opened_backend|open_storage)\(", ast.unparse(function)))


def _allows(function: Function) -> bool:
    """Not where the test itself lists kinds of storage without PostgreSQL."""
    listed = [ast.unparse(d) for d in function.decorator_list if "'kind'" in ast.unparse(d)]
    return all("'postgres'" in text or "BACKENDS" in text or "KINDS" in text for text in listed)
