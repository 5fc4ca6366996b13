"""Rows for COPY, laid out at once, are those laid out piece by piece."""

from __future__ import annotations

import numpy as np

from vectable.backends.postgres.binary import alike, blobs, records, records_alike, vectors
from vectable.core.puts import StoredVectors

MATRIX = np.random.default_rng(5).standard_normal((3, 5)).astype("<f4")


def test_rows_laid_out_at_once() -> None:
    keys = [b"\x02a\x00", b"\x02b\x00", b"\x00\x00\xff"]
    made = records_alike(keys, 2 * alike(b"given"), MATRIX)
    given = blobs([b"given"] * 3)
    expected = records([blobs(keys), given, given, vectors(StoredVectors(MATRIX), 5)])
    assert made is not None
    assert bytes(made) == expected
    assert expected == records(
        [blobs(keys), [alike(b"given")], [alike(b"given")], vectors(list(StoredVectors(MATRIX)), 5)]
    )


def test_keys_of_different_lengths_are_laid_out_piece_by_piece() -> None:
    assert records_alike([b"a", b"bb", b"c"], alike(b""), MATRIX) is None
    made = records([blobs([b"a", b"bb", None]), vectors([None, b"\0\0\x80\x3f", None], 1)])
    assert made == (
        b"\0\2\0\0\0\1a\xff\xff\xff\xff"
        b"\0\2\0\0\0\2bb\0\0\0\x08\0\1\0\0\x3f\x80\0\0"
        b"\0\2\xff\xff\xff\xff\xff\xff\xff\xff"
    )
