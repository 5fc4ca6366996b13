"""The evaluator over resident columns equals the oracle, however the columns came to be."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.filter_samples import TABLE, predicates, rows
from vectable.core.evaluate import matches, value_of
from vectable.core.predicate import (
    FALSE,
    TRUE,
    Clause,
    Field,
    Negation,
    Predicate,
    bind,
    columns_of,
    parse_filter,
    resolve,
)
from vectable.core.schema import ColumnType
from vectable.engine.vectorized import ResidentColumn, build_column, evaluate

t = Field


def columns_for(
    predicate: Predicate, found: Sequence[dict[str, Any]], split: int = 0
) -> dict[str, ResidentColumn]:
    """Each column the predicate needs, its first `split` rows built and the others added one by one."""
    columns = {}
    for name in columns_of(predicate):
        values = [value_of(name, row) for row in found]
        column = build_column(values[:split], resolve(name, TABLE).type)
        for value in values[split:]:
            column = column.extended([value])
        columns[name] = column
    return columns


@given(rows(), predicates(), st.integers(0, 12))
def test_equals_the_oracle(found: list[dict[str, Any]], predicate: Predicate, split: int) -> None:
    bound = bind(parse_filter(predicate), TABLE)
    mask = evaluate(bound, columns_for(bound, found, split), len(found))
    assert mask.dtype == np.bool_
    assert mask.tolist() == [matches(bound, row) for row in found]


@given(rows(), predicates())
def test_literals_nobody_bound_are_exact_too(found: list[dict[str, Any]], predicate: Predicate) -> None:
    mask = evaluate(predicate, columns_for(predicate, found), len(found))
    assert mask.tolist() == [matches(predicate, row) for row in found]


@given(rows())
def test_values_come_back(found: list[dict[str, Any]]) -> None:
    for name in ("title", "stars", "score", "open", "made", "meta", "tags"):
        values = [row[name] for row in found]
        assert build_column(values, TABLE.column(name).type).values() == values


def column(values: Sequence[Any], type_: str = "int") -> ResidentColumn:
    return build_column(values, ColumnType(type_))


def passing(predicate: Predicate, **columns: ResidentColumn) -> list[int]:
    n = len(next(iter(columns.values())))
    return [int(i) for i in np.flatnonzero(evaluate(predicate, columns, n))]


def test_nulls_match_only_is_null() -> None:
    a = column([5, None, 6])
    assert passing(t("a") != 5, a=a) == [2]
    assert passing(~(t("a") == 5), a=a) == [1, 2]
    assert passing(t("a").not_in([5]), a=a) == [2]
    assert passing(t("a").is_null(), a=a) == [1]


@pytest.mark.parametrize("first", [[1, 2], [1, None], [], [None]])
@pytest.mark.parametrize("more", [[3], [None], [None, 3], []])
def test_older_columns_stay_as_they_were(first: list[Any], more: list[Any]) -> None:
    for type_ in ("int", "json"):
        old = column(first, type_)
        left = old.extended(more)
        right = old.extended([7, None])
        further = left.extended([8])
        beside = left.extended([9])
        assert old.values() == first
        assert left.values() == first + more
        assert right.values() == [*first, 7, None]
        assert further.values() == [*first, *more, 8]
        assert beside.values() == [*first, *more, 9]
        assert passing(t("a").is_null(), a=left) == [i for i, v in enumerate(first + more) if v is None]


@pytest.mark.parametrize("type_", ["int", "string"])
def test_two_columns_may_grow_from_one(type_: str) -> None:
    cast = int if type_ == "int" else str
    start = column([cast(i) for i in range(10)], type_).extended([cast(10)])
    left, right = start.extended([cast(11), None]), start.extended([cast(12)])
    assert left.values() == [*map(cast, range(12)), None]
    assert right.values() == [*map(cast, range(11)), cast(12)]
    assert start.values() == [*map(cast, range(11))]


def test_growing_shares_memory_and_moves_rarely() -> None:
    grown: ResidentColumn = column(range(1_000))
    moves = 0
    for value in range(1_000, 20_000):
        before, grown = grown, grown.extended([value])
        moves += not np.shares_memory(_array(before), _array(grown))
    assert moves < 12
    assert grown.values() == list(range(20_000))


def _array(found: ResidentColumn) -> Any:
    return vars(found)["_values"]


def test_answers_about_distinct_values_are_extended_with_them() -> None:
    asked = t("a").like("%x%")
    a = column(["x", "y"], "string")
    assert passing(asked, a=a) == [0]
    longer = a.extended(["zx", "y", None])
    assert passing(asked, a=longer) == [0, 2]
    assert passing(asked, a=a) == [0]


def test_a_result_belongs_to_the_caller() -> None:
    a, b = column(["x", "y", None], "string"), column([None, 1, 2])
    for asked in (t("a").like("x"), t("a") == "x", t("a").is_not_null(), t("a").in_(list("xyzabcdefghijk"))):
        first = evaluate(asked, {"a": a}, 3)
        expected = first.copy()
        first[:] = True
        assert evaluate(asked, {"a": a}, 3).tolist() == expected.tolist()
    present = evaluate(t("b").is_not_null(), {"b": b}, 3)
    present[:] = True
    assert b.values() == [None, 1, 2]


def test_long_lists_and_few_values() -> None:
    values = [i % 50 if i % 7 else None for i in range(500)]
    wanted = list(range(0, 40, 2))
    for type_, cast in (("int", int), ("string", str)):
        a = column([None if v is None else cast(v) for v in values], type_)
        for few in (wanted, wanted[:3]):
            expected = [i for i, v in enumerate(values) if v in few]
            assert passing(t("a").in_([cast(w) for w in few]), a=a) == expected
            outside = [i for i, v in enumerate(values) if v is not None and v not in few]
            assert passing(t("a").not_in([cast(w) for w in few]), a=a) == outside


def test_constants_need_no_columns() -> None:
    assert evaluate(TRUE, {}, 3).tolist() == [True] * 3
    assert evaluate(FALSE, {}, 3).tolist() == [False] * 3
    assert evaluate(Negation(op="not", arg=FALSE), {}, 0).tolist() == []


def test_a_missing_column_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        evaluate(Clause(column="a", operator="=", value=1), {}, 3)


def test_readers_and_a_writer_at_once() -> None:
    """Columns handed out earlier answer the same while newer ones are added to the shared dictionary."""
    start: ResidentColumn = column([f"v{i}" for i in range(200)], "string")
    asked = t("a").contains("9")
    expected = passing(asked, a=start)
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            if passing(asked, a=start) != expected:
                wrong.append("changed")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    grown = start
    for i in range(200, 1_500):
        grown = grown.extended([f"v{i}"])
        if i % 50 == 0:
            assert passing(asked, a=grown) == [j for j in range(i + 1) if "9" in str(j)]
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_size_in_bytes_grows_with_rows() -> None:
    assert column(range(1_000)).nbytes >= 8_000
    assert column([None, *range(999)]).nbytes >= 9_000
    assert column([f"text {i}" for i in range(1_000)], "string").nbytes >= 1_000 * (4 + 7)
    assert column([b"x" * 10_000] * 100, "image").nbytes < 10_000
