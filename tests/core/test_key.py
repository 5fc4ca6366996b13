"""Keys: one order-preserving encoding, one URL form."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectable.core.key import (
    Key,
    decode_key,
    encode_key,
    key_to_url,
    micros_timestamp,
    timestamp_micros,
    url_parts,
)
from vectable.errors import InvalidInput

TEXT = st.text(alphabet=st.characters(codec="utf-8"), max_size=12)
ZONES = st.sampled_from(
    [dt.UTC, dt.timezone(dt.timedelta(hours=5, minutes=45)), dt.timezone(-dt.timedelta(hours=9))]
)
# Hypothesis wants naive bounds; they stay clear of the ends, which another zone's offset would cross.
MOMENTS = st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29), timezones=ZONES)  # noqa: DTZ001
PARTS = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "str": TEXT,
    "bytes": st.binary(max_size=12),
    "uuid": st.uuids(),
    "date": st.dates(),
    "timestamp": MOMENTS,
}
ANY_PART = st.one_of(*PARTS.values())


@pytest.mark.parametrize("kind", PARTS)
@given(data=st.data())
def test_order_of_encodings_is_order_of_keys(kind: str, data: st.DataObject) -> None:
    one = st.lists(PARTS[kind], min_size=1, max_size=3).map(tuple)
    left, right = data.draw(one), data.draw(one)
    assert (encode_key(left) < encode_key(right)) == (left < right)
    assert (encode_key(left) == encode_key(right)) == (left == right)


@given(left=st.tuples(TEXT, PARTS["int"], MOMENTS), right=st.tuples(TEXT, PARTS["int"], MOMENTS))
def test_order_holds_for_mixed_parts(left: Key, right: Key) -> None:
    assert (encode_key(left) < encode_key(right)) == (left < right)


def test_text_is_ordered_by_code_point_not_by_utf16_unit() -> None:
    assert encode_key(("\uffff",)) < encode_key(("\U00010000",))


def test_bytes_with_zeros_keep_their_order_before_a_following_part() -> None:
    keys: list[Key] = [(b"", 5), (b"\x00", 1), (b"\x00\x00", 0), (b"\x00\xff", 0), (b"\x01", 0)]
    assert sorted(keys, key=encode_key) == keys


@given(key=st.lists(ANY_PART, min_size=1, max_size=4).map(tuple))
def test_decoding_gives_the_key_back(key: Key) -> None:
    decoded = decode_key(encode_key(key))
    assert decoded == key
    assert [type(p) for p in decoded] == [type(p) for p in key]


@given(data=st.binary(max_size=24))
def test_decoding_anything_is_a_key_or_a_clear_error(data: bytes) -> None:
    try:
        key = decode_key(data)
    except InvalidInput:
        return
    assert decode_key(encode_key(key)) == key


@pytest.mark.parametrize(
    "key",
    [
        (),
        (True,),
        (1.5,),
        (None,),
        (2**63,),
        (-(2**63) - 1,),
        (10**5000,),
        ("\ud800",),
        ("x" * 1023,),
        (dt.datetime(2026, 1, 1),),  # noqa: DTZ001
        (dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))),),
        (dt.datetime(9999, 12, 31, 23, tzinfo=dt.timezone(-dt.timedelta(hours=2))),),
        (["a"],),
    ],
)
def test_what_cannot_be_a_key_is_refused(key: Key) -> None:
    with pytest.raises(InvalidInput):
        encode_key(key)


def test_the_longest_key_is_accepted() -> None:
    assert len(encode_key(("x" * 1022,))) == 1024


@given(moment=MOMENTS)
def test_timestamps_are_exact_to_the_microsecond(moment: dt.datetime) -> None:
    back = micros_timestamp(timestamp_micros(moment))
    assert back == moment
    assert back.tzinfo is dt.UTC


def test_the_same_moment_in_two_zones_is_one_key() -> None:
    noon = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
    assert encode_key((noon,)) == encode_key((noon.astimezone(dt.timezone(dt.timedelta(hours=9))),))


@given(parts=st.lists(TEXT, min_size=1, max_size=4))
def test_url_form_is_one_safe_segment_and_reads_back(parts: list[str]) -> None:
    segment = key_to_url(tuple(parts))
    assert segment.isascii()
    assert not set(segment) & set("/?#\\ &")
    assert url_parts(segment) == parts


def test_url_form_of_each_kind_of_part() -> None:
    identity = uuid.UUID("0198c0de-0000-7000-8000-000000000001")
    moment = dt.datetime(2026, 1, 31, 13, 30, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    key: Key = (7, "a,b/c", identity, b"\x00\xff", dt.date(2026, 1, 31), moment)
    assert key_to_url(key) == (
        "7,a%2Cb%2Fc,0198c0de-0000-7000-8000-000000000001,00ff,2026-01-31,2026-01-31T12%3A30%3A00Z"
    )
