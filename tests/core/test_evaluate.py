"""What every operator means, value by value; and the total order of rows."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.filter_samples import patterns, predicates, rows, texts
from vectable.core.evaluate import MISSING, extract, matches, order_key, value_of
from vectable.core.predicate import FALSE, TRUE, Clause, Negation, Predicate, and_, not_, or_, parse_filter
from vectable.core.predicate.pattern import fold_case, like_test
from vectable.core.query import OrderTerm
from vectable.errors import UnknownColumn


def clause(operator: Any, value: Any = None, column: str = "c") -> Clause:
    found = parse_filter({"column": column, "operator": operator, "value": value})
    assert isinstance(found, Clause)
    return found


NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
NOON_IN_ROME = dt.datetime(2026, 1, 31, 13, tzinfo=dt.timezone(dt.timedelta(hours=1)))

HOLDS: list[tuple[str, Any, Any]] = [
    ("=", 1, 1), ("=", 1, 1.0), ("=", 1.0, 1), ("=", 2**70, 2**70), ("=", "a", "a"), ("=", True, True),
    ("=", 0.0, -0.0), ("=", [1, "a"], [1.0, "a"]), ("=", {"a": 1, "b": [2]}, {"b": [2.0], "a": 1}),
    ("=", [], []),
    ("=", [None], [None]), ("=", NOON_IN_ROME, NOON),
    ("!=", 1, 2), ("!=", 1, True), ("!=", True, 1), ("!=", 0, False), ("!=", "1", 1), ("!=", [1], [True]),
    ("!=", [], {}), ("!=", "a", "A"), ("!=", "é", "e\u0301"), ("!=", {"a": 1}, {"a": 1, "b": None}),
    ("<", 2, 1.5), ("<", 2**53 + 1, 2.0**53), ("<", 10**400, 1e300), ("<", "b", "a"), ("<", "a", "Z"),
    ("<", "😀", "\uffff"), ("<", "aa", "a"), ("<", NOON, NOON - dt.timedelta(microseconds=1)),
    ("<=", 1, 1.0), (">", 1, 1.5), (">", -(10**400), -1e300), (">=", 5, 5), (">=", "", ""),
    ("in", [1, "a"], 1.0), ("in", [1, "a"], "a"), ("in", [[1]], [1]), ("in", [True], True),
    ("not in", [1, "a"], "b"), ("not in", [1], True), ("not in", [], 1),
    ("between", [1, 2], 1), ("between", [1, 2], 2), ("between", [0.5, 1.5], 1), ("between", ["a",
    "b"], "az"),
    ("like", "a%", "abc"), ("like", "%c", "abc"), ("like", "%b%", "abc"), ("like", "a_c", "abc"),
    ("like", "", ""),
    ("like", "%", ""), ("like", "_", "😀"), ("like", "a%c", "a\n\nc"), ("like", "_", "\n"),
    ("like", r"100\%", "100%"),
    ("like", r"a\_b", "a_b"), ("like", r"a\\b", "a\\b"), ("like", r"\a", "a"), ("like", "%ab%ab%", "abab"),
    ("like", "a%_b", "axb"), ("like", "%_x", "ax"), ("like", "[a]", "[a]"), ("like", "a.c", "a.c"),
    ("ilike", "É%", "école"), ("ilike", "ÀB", "àb"), ("ilike", "ς", "Σ"), ("ilike", "K", "K"),
    ("ilike", "ß", "ß"), ("ilike", "ẞ", "ß"), ("ilike", "ᾈ", "ᾀ"), ("ilike", "İ", "İ"),
    ("ilike", "stra_e", "STRAẞE"),
    ("starts_with", "a%", "a%b"), ("starts_with", "", ""), ("starts_with", "é", "éa"),
    ("contains", "b", "abc"), ("contains", "", ""), ("contains", "%", "100%"), ("contains", "a", ["a",
    "b"]),
    ("contains", 1, [1.0]), ("contains", [1], [[1], 2]), ("contains", {"a": 1}, [{"a": 1.0}]),
    ("contains", True, [True]), ("is null", None, None), ("is not null", None, 0),
    ("is not null", None, ""),
    ("is not null", None, []), ("is not null", None, False), ("is not null", None, {}),
]  # fmt: skip
FAILS: list[tuple[str, Any, Any]] = [
    ("=", 1, True), ("=", True, 1), ("=", False, 0), ("=", 1, "1"), ("=", "a", "A"), ("=", [1], [True]),
    ("=", [], None), ("=", "", None), ("=", "é", "e\u0301"), ("=", 2**53 + 1, 2.0**53),
    ("=", [1, 2], [2, 1]),
    ("=", "2026-01-31T12:00:00Z", NOON), ("=", 0, None),
    ("!=", 1, 1.0), ("!=", 5, None), ("!=", "a", None), ("!=", [1], [1.0]),
    ("<", 2, "1"), ("<", "b", 1), ("<", 2, True), ("<", 2, None), ("<", "b", ["a"]), ("<", "\uffff", "😀"),
    (">", 0, True), (">", "", 1), (">=", 0, False), (">=", "a", None), ("<=", 1, [0]), ("<", NOON, "2025"),
    ("in", [1], True), ("in", [1], None), ("in", [], 1), ("in", [], None), ("in", ["A"], "a"),
    ("not in", [1], 1.0), ("not in", [1], None), ("not in", [], None),
    ("between", [1, 2], 2.5), ("between", [2, 1], 1), ("between", [0, 2], True), ("between", [0, 2], "1"),
    ("between", ["a", "b"], "b "), ("between", [0, 2], None),
    ("like", "a", "A"), ("like", "a", "ab"), ("like", "a%", "ba"), ("like", "_", ""), ("like", "_", "ab"),
    ("like", "%_", ""), ("like", "a%a", "a"), ("like", r"\%", "a"), ("like", "%", None), ("like", "%", 1),
    ("like", "%", ["a"]), ("like", "ab%bc", "abc"), ("like", ".", "a"), ("like", "_", "e\u0301"),
    ("ilike", "SS", "ß"), ("ilike", "ss", "ẞ"), ("ilike", "i", "İ"), ("ilike", "%", None),
    ("starts_with", "b", "ab"), ("starts_with", "A", "a"), ("starts_with", "", None), ("starts_with",
    "a", ["a"]),
    ("contains", "A", "abc"), ("contains", 1, "1"), ("contains", "a", ["ab"]), ("contains", 1, [True]),
    ("contains", "a", {"a": 1}), ("contains", "a", None), ("contains", "", []), ("contains", [], []),
    ("is null", None, 0), ("is null", None, ""), ("is null", None, []), ("is null", None, False),
    ("is not null", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "value", "stored"), HOLDS)
def test_holds(operator: str, value: Any, stored: Any) -> None:
    assert matches(clause(operator, value), {"c": stored})


@pytest.mark.parametrize(("operator", "value", "stored"), FAILS)
def test_does_not_hold(operator: str, value: Any, stored: Any) -> None:
    assert not matches(clause(operator, value), {"c": stored})


META = {
    "stars": 5,
    "none": None,
    "empty": [],
    "tags": ["x", "y", [1]],
    "a": {"b": "deep"},
    "odd.key": 1,
    "0": "zero",
}


@pytest.mark.parametrize(
    ("column", "operator", "value", "holds"),
    [
        ("m.stars", "=", 5.0, True),
        ("m.stars", "=", "5", False),
        ("m.stars", "!=", "5", True),
        ("m.stars", "<", "6", False),
        ("m.a.b", "starts_with", "de", True),
        ("m.tags[0]", "=", "x", True),
        ("m.tags[2][0]", "=", 1, True),
        ("m.tags", "contains", [1], True),
        ('m["odd.key"]', "=", 1, True),
        ("m.0", "=", "zero", True),
        ("m.none", "is null", None, True),
        ("m.none", "is not null", None, False),
        ("m.none", "!=", 1, False),
        ("m.empty", "is null", None, False),
        ("m.empty", "is not null", None, True),
        ("m.gone", "is null", None, False),
        ("m.gone", "is not null", None, False),
        ("m.gone", "!=", 1, False),
        ("m.gone", "not in", [1], False),
        ("m.none.deeper", "is null", None, False),
        ("m.stars.deeper", "is null", None, False),
        ("m.tags.x", "is not null", None, False),
        ("m.tags[9]", "is null", None, False),
        ("m[0]", "is not null", None, False),
        ("m", "=", META, True),
        ("m", "is null", None, False),
    ],
)
def test_json_paths(column: str, operator: str, value: Any, holds: bool) -> None:
    found = clause(operator, value, column)
    assert matches(found, {"m": META}) is holds
    assert matches(Negation(op="not", arg=found), {"m": META}) is not holds


def test_a_null_column_has_no_parts() -> None:
    assert not matches(clause("is null", column="m.a"), {"m": None})
    assert matches(clause("is null", column="m"), {"m": None})
    assert value_of("m.a", {"m": None}) is MISSING
    assert extract([1, [2]], (1, 0)) == 2


def test_a_state_is_found_under_its_own_name() -> None:
    row = {"emb": None, "emb.state": "new"}
    assert matches(clause("=", "new", "emb.state"), row)
    assert matches(clause("is null", column="emb"), row)


def test_a_row_without_the_column_is_an_error() -> None:
    with pytest.raises(UnknownColumn, match="did you mean 'title'"):
        matches(clause("=", "x", "titel"), {"title": "x"})


def test_empty_combinations() -> None:
    assert matches(TRUE, {})
    assert not matches(FALSE, {})


@given(rows(max_size=4), predicates(), predicates())
def test_laws_of_sets(found: list[dict[str, Any]], p: Predicate, q: Predicate) -> None:
    for row in found:
        holds_p, holds_q = matches(p, row), matches(q, row)
        assert matches(not_(p), row) is not holds_p
        assert matches(and_([p, q]), row) is (holds_p and holds_q)
        assert matches(or_([p, q]), row) is (holds_p or holds_q)


def _like_by_definition(text: str, pattern: str) -> bool:
    """The definition itself, by trying every split."""
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(_like_by_definition(text[i:], pattern[1:]) for i in range(len(text) + 1))
    if pattern[0] == "\\":
        pattern = pattern[1:]
    elif pattern[0] == "_":
        return bool(text) and _like_by_definition(text[1:], pattern[1:])
    return text[:1] == pattern[0] and _like_by_definition(text[1:], pattern[1:])


@given(st.text("aAbé%_\\😀", max_size=8), patterns)
def test_like_is_its_definition(text: str, pattern: str) -> None:
    assert like_test(pattern)(text) is _like_by_definition(text, pattern)


def test_hostile_patterns_take_no_exponential_time() -> None:
    assert not like_test("%a" * 2_000 + "%b")("a" * 20_000)
    assert not like_test("%_a" * 500 + "b")("a" * 2_000)


@given(texts)
def test_folding_keeps_the_length_and_is_stable(text: str) -> None:
    folded = fold_case(text)
    assert len(folded) == len(text)
    assert fold_case(folded) == folded
    assert all(f == c or f == c.casefold() for f, c in zip(folded, text, strict=True))


def test_order_puts_nulls_last_both_ways_and_the_key_at_the_end() -> None:
    values = [("b", b"2"), (None, b"0"), ("a", b"9"), ("a", b"1"), ("😀", b"3"), ("\uffff", b"4")]

    def ordered(descending: bool) -> list[Any]:
        terms = [OrderTerm(column="c", descending=descending)]
        return sorted(values, key=lambda v: order_key([v[0]], terms, v[1]))

    assert ordered(False) == [
        ("a", b"1"), ("a", b"9"), ("b", b"2"), ("\uffff", b"4"), ("😀", b"3"), (None, b"0")
    ]  # fmt: skip
    assert ordered(True) == [
        ("😀", b"3"), ("\uffff", b"4"), ("b", b"2"), ("a", b"1"), ("a", b"9"), (None, b"0")
    ]  # fmt: skip


def test_any_json_values_have_an_order() -> None:
    values = [
        MISSING,
        None,
        {"a": [1, None]},
        {"a": [1, 2]},
        [1, "a"],
        "b",
        "a",
        2**70,
        1,
        0.5,
        True,
        False,
        NOON,
    ]
    terms = [OrderTerm(column="c")]
    found = sorted(values, key=lambda v: order_key([v], terms, b""))
    assert found[:7] == [False, True, 0.5, 1, 2**70, "a", "b"]
    assert found[-2:] in ([None, MISSING], [MISSING, None])
    assert sorted(found, key=lambda v: order_key([v], [OrderTerm(column="c", descending=True)], b""))[0] == {
        "a": [1, 2]
    }
