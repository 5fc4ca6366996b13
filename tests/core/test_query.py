"""Queries: sort terms, limits, immutability, and one form on the wire."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vectable.core.evaluate import order_key
from vectable.core.predicate import TRUE, Clause, Combination, Field, and_, parse_filter
from vectable.core.query import DEFAULT_LIMIT, MAX_LIMIT, OrderTerm, Query, Similar
from vectable.errors import InvalidFilter, InvalidInput

CLAUSE = {"column": "stars", "operator": ">=", "value": 7}


@pytest.mark.parametrize(
    ("text", "column", "descending"),
    [
        ("stars", "stars", False),
        ("+stars", "stars", False),
        ("-stars", "stars", True),
        ("-meta.stars", "meta.stars", True),
        ('meta["a-b"]', 'meta["a-b"]', False),
        ("score", "score", False),
        ("-similarity_score", "score", True),
        ("größe", "größe", False),
    ],
)
def test_sort_terms_are_written_in_short(text: str, column: str, descending: bool) -> None:
    term = OrderTerm.parse(text)
    assert (term.column, term.descending) == (column, descending)
    assert OrderTerm.parse(term) is term
    assert OrderTerm.parse(str(term)) == term


@pytest.mark.parametrize("text", ["", "-", "+", "+-", None, 7, ["stars"], b"stars", {"column": "stars"}])
def test_what_is_no_sort_term_is_refused(text: Any) -> None:
    with pytest.raises(InvalidInput, match="is not a sort term"):
        OrderTerm.parse(text)
    with pytest.raises(InvalidInput, match="is not a sort term"):
        Query(order_by=[text])


def test_one_sort_term_needs_no_list() -> None:
    assert Query(order_by="-stars").order_by == (OrderTerm(column="stars", descending=True),)
    assert Query(order_by=["-stars", OrderTerm(column="title")]).order_by == (
        OrderTerm(column="stars", descending=True),
        OrderTerm(column="title"),
    )


def test_a_query_asks_for_everything_by_default() -> None:
    query = Query()
    assert (query.select, query.where, query.similar, query.cursor) == (None, None, None, None)
    assert (query.order_by, query.limit, query.offset) == ((), DEFAULT_LIMIT, 0)
    assert query.predicate == TRUE


@pytest.mark.parametrize(
    "fields",
    [
        {"limit": -1},
        {"limit": MAX_LIMIT + 1},
        {"limit": 1.5},
        {"limit": "many"},
        {"limit": None},
        {"limit": "5"},
        {"limit": True},
        {"offset": "5"},
        {"similar": {"column": "emb", "to": "x", "threshold": "0.5"}},
        {"similar": {"column": "emb", "to": "x", "exact": "yes"}},
        {"offset": -1},
        {"order": "stars"},
        {"select": "title"},
        {"select": [7]},
        {"similar": {"column": "emb"}},
        {"similar": {"column": "emb", "to": "x", "threshold": float("nan")}},
        {"similar": {"column": "emb", "to": "x", "threshold": float("inf")}},
        {"similar": {"column": "emb", "to": "x", "limit": 3}},
        {"order_by": 7},
        {"order_by": {"stars": "desc"}},
        {"where": 7},
        {"where": {"column": "stars", "operator": "~"}},
        {"cursor": 7},
    ],
)
def test_what_cannot_be_asked_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Query(**fields)


@pytest.mark.parametrize("limit", [0, 1, MAX_LIMIT])
def test_limits_at_their_ends(limit: int) -> None:
    assert Query(limit=limit).limit == limit


def test_queries_do_not_change() -> None:
    query = Query(where=CLAUSE, similar=Similar(column="emb", to="hooks"), order_by="stars")
    for name in Query.model_fields:
        with pytest.raises(ValidationError):
            setattr(query, name, None)
    narrowed = query.and_where({"column": "language", "operator": "=", "value": "Python"})
    assert query.predicate == Clause(column="stars", operator=">=", value=7)
    assert narrowed.predicate == Combination(
        op="and", args=(query.predicate, Clause(column="language", operator="=", value="Python"))
    )
    assert narrowed.similar == query.similar


def test_narrowing_an_open_query_is_the_filter_itself() -> None:
    assert Query().and_where(CLAUSE).predicate == parse_filter(CLAUSE)
    thrice = Query().and_where([CLAUSE, CLAUSE]).and_where(CLAUSE).predicate
    assert thrice == and_([parse_filter(CLAUSE)] * 3)


def test_narrowing_by_nonsense_is_refused() -> None:
    with pytest.raises(InvalidFilter):
        Query().and_where({"column": "stars", "operator": "~", "value": 1})


@pytest.mark.parametrize(
    "where",
    [
        CLAUSE,
        [CLAUSE, {"op": "not", "arg": CLAUSE}],
        {"op": "or", "args": [CLAUSE, [CLAUSE]]},
        {"sql": "stars >= ? and language in (?, ?)", "params": [7, "a", "b"]},
        {"column": "meta.tags", "operator": "=", "value": ["a", {"b": None}]},
        {"column": "stars", "operator": "between", "value": [1, 2]},
    ],
)
def test_a_query_is_its_own_request_body(where: Any) -> None:
    body = {
        "select": ["title", "meta.stars"],
        "where": where,
        "similar": {"column": "emb", "to": [0.5, 1.0], "threshold": 0.2, "exact": True},
        "order_by": ["-score", "title"],
        "limit": 5,
        "offset": 10,
    }
    query = Query.model_validate(body)
    dumped = query.model_dump(mode="json", exclude_none=True)
    assert dumped["order_by"] == body["order_by"]
    assert Query.model_validate(dumped).predicate == query.predicate
    assert Query.model_validate_json(query.model_dump_json()) == query


VALUE = st.one_of(st.none(), st.integers(-2, 2), st.sampled_from([0.5, -0.5, 2.0**60]))


@given(
    rows=st.lists(st.tuples(VALUE, VALUE, st.binary(max_size=2)), unique_by=lambda row: row[2], max_size=8),
    descending=st.tuples(st.booleans(), st.booleans()),
)
def test_nulls_are_last_both_ways_and_the_key_decides(
    rows: list[tuple[Any, Any, bytes]], descending: tuple[bool, bool]
) -> None:
    terms = [OrderTerm(column=name, descending=down) for name, down in zip("ab", descending, strict=True)]
    placed = sorted(rows, key=lambda row: order_key(row[:2], terms, row[2]))

    def plain(row: tuple[Any, Any, bytes]) -> tuple[Any, ...]:
        parts: list[Any] = []
        for value, down in zip(row[:2], descending, strict=True):
            parts += [value is None, 0 if value is None else (-value if down else value)]
        return (*parts, row[2])

    assert placed == sorted(rows, key=plain)


def test_an_offset_is_a_number_every_client_can_hold() -> None:
    assert Query(offset=2**53 - 1).offset == 2**53 - 1
    with pytest.raises(ValidationError):
        Query(offset=2**53)


def test_a_field_with_a_minus_sorts_downwards() -> None:
    assert -Field("stars") == OrderTerm(column="stars", descending=True)
    assert Query(order_by=(-Field("meta.stars"),)) == Query(order_by=("-meta.stars",))
