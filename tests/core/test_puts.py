"""Puts by column are the puts they stand for."""

from __future__ import annotations

import numpy as np

from vectable.core.cell import GIVEN
from vectable.core.puts import PutColumns, StoredVectors
from vectable.core.rows import Put
from vectable.core.schema import Metric
from vectable.core.vectors import fill_rows, to_bytes

MATRIX = np.array([[1, 2], [3, 4], [5, 6]], "<f4")
FIRST, _, THIRD = (to_bytes(row) for row in MATRIX)


def columns() -> PutColumns:
    vectors = StoredVectors(MATRIX.copy())
    vectors.put(1, None)
    return PutColumns(
        [b"a", b"b", b"c"],
        {"n": [1, None, 3]},
        {"v": [GIVEN, None, GIVEN], "w": [b"1", b"2", None]},
        {"v": vectors, "w": [None, b"known", None]},
        "absent",
    )


def test_each_is_a_put_of_its_own() -> None:
    puts = columns()
    assert list(puts) == [
        Put(b"a", {"n": 1}, {"v": GIVEN, "w": b"1"}, {"v": FIRST}, "absent"),
        Put(b"b", {"n": None}, {"v": None, "w": b"2"}, {"w": b"known"}, "absent"),
        Put(b"c", {"n": 3}, {"v": GIVEN, "w": None}, {"v": THIRD}, "absent"),
    ]
    assert puts[2] is puts[-1]
    assert [list(each) for each in puts.vectors.values()] == [[FIRST, None, THIRD], [None, b"known", None]]


def test_puts_are_found_again_by_column() -> None:
    assert list(PutColumns.of(list(columns()), ["n"])) == list(columns())
    assert len(PutColumns.of([], ["n"])) == 0


def test_taken_in_another_order() -> None:
    puts = list(columns())
    assert list(columns().take([2, 0])) == [puts[2], puts[0]]
    assert list(columns().take([])) == []


def test_unsettled_are_those_that_want_what_nobody_gave() -> None:
    assert columns().unsettled() == [0]
    seen = columns()
    assert list(seen)[1].key == b"b" and seen.unsettled() == [0]


def test_a_vector_put_again_is_there_again() -> None:
    vectors = StoredVectors.room(2, 2)
    for vector in (None, FIRST):
        vectors.put(0, vector)
        vectors.put(1, THIRD)
    assert list(vectors) == list(vectors[:]) == [FIRST, THIRD]


def test_vectors_at_once_are_held_to_what_one_is() -> None:
    def fills(*values: object, metric: Metric = Metric.COSINE) -> bool:
        return fill_rows(np.empty((len(values), 2), "<f4"), values, metric)

    good = np.array([1, 2], "f8")
    tiny, huge = np.array([1e-30, 0]), np.array([3e38, 3e38])
    assert fills(good, tiny, huge)  # their squares are zero and infinite, they are not
    assert not fills(good, np.array([1e39, 0])) and not fills(good, np.array([np.nan, 0]))
    assert not fills(good, np.zeros(2)) and fills(good, np.zeros(2), metric=Metric.EUCLIDEAN)
    assert not fills(good, np.array([1, 2], "f4")) and not fills(good, [1.0, 2.0])
    assert not fills(np.ones(3), np.ones(1)) and not fills(good, np.array([True, True]))
