"""Which tests of the engine run on PostgreSQL too; the others say here why they need not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.engine.conftest import KINDS
from tests.engine.searching import BACKENDS

HERE = Path(__file__).parent
PURE = "no storage is involved"
RESIDENT = "about what is made of rows in memory, once they are there: no backend takes part in it"
SIZES = "the sizes are for the paths over rows in memory; test_search_pages and _oracle go to the backend"
NOT_ON_POSTGRES = {
    "test_kinds": PURE,
    "test_tiers": PURE,
    "test_vectorized": PURE,
    "test_search_codes": RESIDENT,
    "test_search_index_trust": RESIDENT,
    "test_resident_files::test_a_base_that_cannot_be_trusted_is_made_anew": RESIDENT,
    "test_resident_files::test_a_fast_scan_is_kept_beside_its_base": RESIDENT,
    "test_resident_files::test_a_directory_that_cannot_be_written_only_costs_time": RESIDENT,
    "test_resident_files::test_sections_come_back_as_they_were_written": PURE,
    "test_resident_files::test_packed_keys_are_found_in_order": PURE,
    "test_resident_files::test_files_of_versions_that_are_gone_are_swept": RESIDENT,
    "test_resident_budget::test_rows_that_outgrow_the_budget_are_given_up": RESIDENT,
    "test_resident_budget::test_the_version_used_longest_ago_goes_first_and_none_in_use": PURE,
    "test_resident_budget::test_searchers_of_one_directory_share_what_is_held": RESIDENT,
    "test_search_concurrent::test_many_searches_at_once_while_a_thread_writes": (
        "about threads that search at once, which only backends that never suspend have"
    ),
    "test_search_concurrent::test_a_program_that_searches_and_leaves_does_not_wait_for_builds": RESIDENT,
    "test_search_oracle::test_components_at_the_edge_of_float32": "tests/backends/test_engines_agree.py",
    "test_search_pages::test_cursors_keep_every_kind_of_value": PURE,
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
    """Every test of this folder, and whether one of the kinds it runs on is PostgreSQL."""
    shared = _functions(HERE / "conftest.py")
    for path in sorted(HERE.glob("test_*.py")):
        functions = {**shared, **_functions(path)}
        for name, function in _functions(path).items():
            if name.startswith("test_"):
                yield f"{path.stem}::{name}", _reaches_kind(function, functions) and _allows(function)


def _functions(path: Path) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    body = ast.parse(path.read_text()).body
    return {f.name: f for f in body if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)}


def _reaches_kind(
    function: ast.FunctionDef | ast.AsyncFunctionDef,
    functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef],
) -> bool:
    names = [a.arg for a in function.args.args]
    return "kind" in names or any(_reaches_kind(functions[n], functions) for n in names if n in functions)


def _allows(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Not where the test itself lists kinds of storage without PostgreSQL."""
    listed = [ast.unparse(d) for d in function.decorator_list if "'kind'" in ast.unparse(d)]
    return all("'postgres'" in text or "BACKENDS" in text or "KINDS" in text for text in listed)
