"""The document of figures keeps what was measured when a suite is measured anew."""

from __future__ import annotations

from benchmarks.__main__ import SUITES, _markdown
from benchmarks.measure import Figure


def test_a_suite_replaces_its_own_section_only() -> None:
    first = _markdown({"write": [Figure("rows", 2.0, "s", ("<=", 1.0))], "search": [Figure("old", 1, "ms")]})
    again = _markdown({"search": [Figure("new", 3, "ms", ("<=", 4.0), "note")]}, first)
    assert "| rows | 2 s | ≤ 1 s | **no** |  |" in again
    assert "| new | 3 ms | ≤ 4 ms | yes | note |" in again
    assert "old" not in again
    titles = [line for line in again.splitlines() if line.startswith("### ")]
    assert titles == [f"### {name}: {SUITES[name]}" for name in SUITES if name in ("search", "write")]
    assert _markdown({}, again) == again
