"""Many rows are checked column by column: with the same outcome as each by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vectable.core.schema import Table
from vectable.engine.prepare import Prepared, row_check
from vectable.errors import VectableError
from vectable.testing.samples import every_type_table, vector_column
from vectable.testing.strategies import IDS, VALUES

TABLE = every_type_table(vector_column("emb", 3), vector_column("other", 2))
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 1, 1.0, 2**70, float("nan"), "a\x00b", "\ud800", "x" * 2_000, b"x", [1], {"a": 1}]
)
VECTORS = st.sampled_from(
    [
        np.array([1, 2, 3], "f4"),
        np.array([1, 2, 3], "f8"),
        np.zeros(3, "f4"),
        np.array([1, np.inf, 3], "f4"),
        np.ones(2, "f4"),
        [1.0, 2.0, 3.0],
        None,
    ]
)


@st.composite
def rows(draw: st.DrawFn) -> list[Any]:
    """Rows with the same columns, nearly always, and good values, nearly always."""
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True, max_size=5))
    found: list[Any] = []
    for _ in range(draw(st.integers(1, 6))):
        row: dict[str, Any] = {"id": draw(IDS)} | {name: draw(VALUES[name]) for name in names}
        row["emb"] = draw(VECTORS) if draw(st.integers(0, 3)) == 0 else np.array([1, 2, 3], "f4")
        row["other"] = np.array([3, 4], "f4")
        if draw(st.integers(0, 9)) == 0:
            row[draw(st.sampled_from(["id", *names, "nowhere"]))] = draw(ODD)
        if draw(st.integers(0, 9)) == 0:
            row.pop(draw(st.sampled_from(sorted(row))))
        found.append(row)
    return found


def one_by_one(table: Table, rows: list[Any]) -> list[Prepared] | VectableError:
    check = row_check(table)
    try:
        return [check.row(row, i, str) for i, row in enumerate(rows)]
    except VectableError as error:
        return error


def together(table: Table, rows: list[Any]) -> list[Prepared] | VectableError:
    try:
        found = row_check(table).rows(rows, str)
    except VectableError as error:
        return error
    return [
        Prepared(
            key,
            {name: values[i] for name, values in found.columns.items()},
            {version: vectors[i] for version, vectors in found.given.items()},
        )
        for i, key in enumerate(found.keys)
    ]


@given(rows())
def test_rows_together_are_as_each_by_itself(rows: list[Any]) -> None:
    expected, found = one_by_one(TABLE, rows), together(TABLE, rows)
    if isinstance(expected, VectableError):
        assert (type(found), str(found)) == (type(expected), str(expected))
        assert isinstance(found, VectableError)
        assert found.context == expected.context
        return
    assert found == expected
    assert isinstance(found, list)
    for left, right in zip(found, expected, strict=True):
        assert [type(v) for v in left.values.values()] == [type(v) for v in right.values.values()]


def test_no_rows_are_no_rows() -> None:
    assert together(TABLE, []) == []
