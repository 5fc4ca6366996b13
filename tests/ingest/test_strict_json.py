"""JSON from strangers: everything that is not exactly JSON is refused, with its reason."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectable.errors import InvalidInput
from vectable.ingest.strict_json import MAX_DEPTH, parse_json

REFUSED = [
    (b"", "empty"),
    (b"  \n", "empty"),
    (b"nul", "not JSON"),
    (b'{"a":1,}', "line 1, column 8"),
    (b'{"a":1}{', "not JSON"),
    (b"'a'", "not JSON"),
    (b'"a\nb"', "control character"),
    (b"\xff", "byte 0"),
    (b'{"a":"\xc3\x28"}', "byte 6"),
    (b'"\xed\xa0\x80"', "UTF-8"),
    (b"\xef\xbb\xbf{}", "byte order mark"),
    (b"[NaN]", "NaN"),
    (b'{"a": -Infinity}', "-Infinity"),
    (b"[1e400]", "too large"),
    (b"[-1e400]", "too large"),
    (b"[1" + b"0" * 400 + b"]", "64 bits"),
    (b"[18446744073709551616]", "18446744073709551616"),
    (b"[-9223372036854775809]", "64 bits"),
    (b"[" + b"9" * 100_000 + b"]", "64 bits"),
    (b'"\\ud800"', "lone surrogate"),
    (b'"\\udc00\\ud800"', "surrogate"),
    (b'{"a":1,"a":2}', "'a' occurs twice"),
    (b'{"b":[{"a":{"x":1}, "a" :2}]}', "'a' occurs twice"),
    (b'{"u:v":1,"\\u0061":1,"a":2}', "'a' occurs twice"),
    (b"[" * 5_000, "nested deeper"),
    (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper"),
    (b'{"a":' * 1_000_000, "nested deeper"),
]


@pytest.mark.parametrize(("data", "why"), REFUSED, ids=[str(d[:24]) for d, _ in REFUSED])
def test_refuses_what_is_not_json(data: bytes, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        parse_json(data)
    assert len(caught.value.detail) < 200


@pytest.mark.parametrize(
    "data",
    [
        b'{"a:b":"c:d","e":[{"f":"\\":"}]}',
        b"[18446744073709551615, -9223372036854775808]",
        b'"18446744073709551616"',
        b"[0.00012345678901234567, 1234567890123456789012.5]",
        b'{"a":"\\ud83d\\ude00"}',
        b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
        b' {"id" : "https://x.y/z?a=1:2" , "n" : 12345678901234567890} ',
    ],
)
def test_accepts_what_is(data: bytes) -> None:
    assert parse_json(data) == json.loads(data)


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=30,
)


@given(_values)
def test_reads_back_what_was_written(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False, indent=1).encode()) == value


@given(st.binary(max_size=60))
def test_never_fails_but_by_refusing(data: bytes) -> None:
    try:
        value = parse_json(data)
    except InvalidInput:
        return
    again = json.loads(data)
    assert value == again or (isinstance(again, float) and math.isclose(again, value))
