"""Filters fitted to a table: names, operators by type, final literals, folding that changes no meaning."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.filter_samples import (
    NUMBERS,
    TABLE,
    floats,
    ints,
    numbers,
    predicates,
    rows,
)
from vectable.core.evaluate import matches
from vectable.core.predicate import (
    FALSE,
    OPERATORS,
    TRUE,
    Clause,
    Combination,
    Field,
    Predicate,
    SqlFilter,
    Target,
    bind,
    not_,
    parse_filter,
    resolve,
    split_name,
)
from vectable.core.schema import ColumnType
from vectable.errors import InvalidFilter, UnknownColumn

t = Field
NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


def bound(where: Any) -> Predicate:
    return bind(parse_filter(where), TABLE)


@given(rows(max_size=6), predicates())
def test_binding_changes_no_meaning(found: list[dict[str, Any]], predicate: Predicate) -> None:
    fitted = bound(predicate)
    assert bind(fitted, TABLE) == fitted
    for row in found:
        assert matches(fitted, row) is matches(predicate, row)


_COMPARISONS = ["=", "!=", "<", "<=", ">", ">="]


@given(st.sampled_from(_COMPARISONS), numbers, ints, floats)
def test_numbers_compare_as_in_mathematics(operator: Any, literal: Any, whole: int, real: float) -> None:
    for name, value in (("stars", whole), ("score", real)):
        clause = Clause(column=name, operator=operator, value=literal)
        fitted = bind(clause, TABLE)
        assert matches(fitted, {name: value}) is matches(clause, {name: value})
        if isinstance(fitted, Clause) and fitted.value is not None:
            assert type(fitted.value) is (int if name == "stars" else float)
            assert name == "score" or -(2**63) <= fitted.value < 2**63


@pytest.mark.parametrize("literal", NUMBERS)
@pytest.mark.parametrize("operator", _COMPARISONS)
def test_numbers_at_the_edges(operator: Any, literal: Any) -> None:
    for value in NUMBERS:
        for name, kind in (("stars", int), ("score", float)):
            if type(value) is kind and not (kind is int and not -(2**63) <= value < 2**63):
                clause = Clause(column=name, operator=operator, value=literal)
                assert matches(bind(clause, TABLE), {name: value}) is matches(clause, {name: value})


@pytest.mark.parametrize("low", NUMBERS)
def test_ranges_at_the_edges(low: Any) -> None:
    for high in NUMBERS:
        for name, kind in (("stars", int), ("score", float)):
            clause = Clause(column=name, operator="between", value=(low, high))
            fitted = bind(clause, TABLE)
            for value in NUMBERS:
                if type(value) is kind and not (kind is int and not -(2**63) <= value < 2**63):
                    assert matches(fitted, {name: value}) is matches(clause, {name: value})


NEVER_NULL = t("stars").is_not_null()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (t("stars") == 5.0, t("stars") == 5),
        (t("stars") == 5.5, FALSE),
        (t("stars") != 5.5, NEVER_NULL),
        (t("stars") < 5.5, t("stars") <= 5),
        (t("stars") >= -5.5, t("stars") >= -5),
        (t("stars") < 2**63, t("stars") <= 2**63 - 1),
        (t("stars") > 2**63, FALSE),
        (t("stars") < -(2**63) - 1, FALSE),
        (t("stars").between(0.5, 1.5), t("stars").between(1, 1)),
        (t("stars").between(0.1, 0.9), FALSE),
        (t("stars").between(3, 1), FALSE),
        (t("stars").in_([1, 1.0, 1.5, 10**30]), t("stars").in_([1])),
        (t("stars").in_([0.5]), FALSE),
        (t("stars").not_in([0.5]), NEVER_NULL),
        (t("stars").not_in([]), NEVER_NULL),
        (t("emb").state.not_in([]), TRUE),
        (t("score") == 2**53 + 1, FALSE),
        (t("score") < 10**400, t("score") <= 1.7976931348623157e308),
        (t("score") > 10**400, FALSE),
        (t("score").in_([1, 2]), t("score").in_([1.0, 2.0])),
        (t("title").between("b", "a"), FALSE),
        (t("title").in_(["a", "b", "a"]), t("title").in_(["a", "b"])),
        (t("meta").in_([1, 1.0, True]), t("meta").in_([1, True])),
        (t("made") == "2026-01-31T13:00:00+01:00", t("made") == NOON),
        (t("made") == "2026-01-31T12:00Z", t("made") == NOON),
        (t("made").in_([NOON, "2026-01-31T12:00:00.000000Z"]), t("made").in_([NOON])),
        (t('meta["stars"]') == 1, t("meta.stars") == 1),
        ((t("stars") == 0.5) & (t("title") == "a"), FALSE),
        ((t("stars") == 0.5) | (t("title") == "a"), t("title") == "a"),
        (~(t("stars") == 0.5), TRUE),
        (~(t("stars") == 0.5) & (t("title") == "a"), t("title") == "a"),
        (~((t("title") == "a") | ~(t("stars") == 0.5)), FALSE),
    ],
)
def test_folding(where: Predicate, expected: Predicate) -> None:
    assert bound(where) == expected


def test_literals_have_their_final_type() -> None:
    assert type(bound(t("stars") == 5.0).value) is int  # type: ignore[union-attr]
    assert type(bound(t("score") == 5).value) is float  # type: ignore[union-attr]
    moment = bound(t("made") >= "2026-01-31T13:00:00+01:00").value  # type: ignore[union-attr]
    assert (moment, moment.tzinfo) == (NOON, dt.UTC)


ALLOWED = {
    "title": set(OPERATORS),
    "meta": set(OPERATORS),
    "meta.a.b": set(OPERATORS),
    "stars": {"=", "!=", "<", "<=", ">", ">=", "in", "not in", "between", "is null", "is not null"},
    "score": {"=", "!=", "<", "<=", ">", ">=", "in", "not in", "between", "is null", "is not null"},
    "made": {"=", "!=", "<", "<=", ">", ">=", "in", "not in", "between", "is null", "is not null"},
    "open": {"=", "!=", "in", "not in", "is null", "is not null"},
    "tags": {"=", "!=", "in", "not in", "contains", "is null", "is not null"},
    "counts": {"=", "!=", "in", "not in", "contains", "is null", "is not null"},
    "photo": {"is null", "is not null"},
    "emb": {"is null", "is not null"},
    "emb.state": {"=", "!=", "in", "not in"},
}
FITTING = {"stars": 1, "score": 1, "made": NOON, "open": True, "counts": 1, "emb.state": "new"}


@pytest.mark.parametrize("column", ALLOWED)
@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_by_type(column: str, operator: Any) -> None:
    one = FITTING.get(column, "x")
    if column in ("tags", "counts") and operator != "contains":
        one = [one]
    value: Any = {"in": (one,), "not in": (one,), "between": (one, one)}.get(operator, one)
    clause = Clause(column=column, operator=operator, value=None if "null" in operator else value)
    if operator in ALLOWED[column]:
        bind(clause, TABLE)
    else:
        with pytest.raises(InvalidFilter, match="does not work on") as caught:
            bind(clause, TABLE)
        assert caught.value.hint is not None
        assert caught.value.hint.startswith("use ")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (t("title") == 5, "takes a string"),
        (t("title") == NOON, "takes a string"),
        (t("title").in_(["a", 1]), "takes a string"),
        (t("title").contains(["a"]), "takes a string"),
        (t("stars") == "5", "takes a number"),
        (t("stars") == True, "takes a number"),  # noqa: E712
        (t("score").between(1, "2"), "takes a number"),
        (t("open") == 1, "takes true or false"),
        (t("made") == 0, "time zone"),
        (t("made") == "yesterday", "time zone"),
        (t("made") == "2026-01-31T12:00:00", "no time zone"),
        (t("made") == "2026-01-31", "no time zone"),
        (t("made") == "2026-01-31T12:00:00.0000001Z", "to the microsecond"),
        (t("made") == "0001-01-01T00:00:00+14:00", "years 1 to 9999"),
        (t("tags") == "x", "use contains"),
        (t("tags") == [1], "takes a string"),
        (t("counts").contains("x"), "takes a number"),
        (t("weights") == [True], "takes a number"),
        (t("meta") == NOON, "a JSON value"),
        (t("meta") == [{"a": NOON}], "a JSON value"),
        (t("meta.stars") < True, "where order matters"),
        (t("meta.stars") < [1], "where order matters"),
        (t("meta.stars").between(1, [2]), "where order matters"),
        (t("emb").state == "in_progress", "ready, new, stale, error, empty"),
        (t("emb").state == ["ready"], "ready, new"),
        (t("title")["x"] == 1, "paths work on json columns"),
        (t("stars")[0] == 1, "no parts"),
    ],
)
def test_values_that_do_not_fit(where: Predicate, message: str) -> None:
    with pytest.raises(InvalidFilter, match=message):
        bound(where)


def test_nothing_lies_between_ends_of_two_kinds() -> None:
    assert bound(t("meta.stars").between(1, "b")) == FALSE
    assert bound(t("meta.stars").between("b", 1)) == FALSE


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("titel", "did you mean 'title'"),
        ("emb.stat", "parts: emb.state, and in a selection emb.error"),
        ("emb.error", "emb.state = 'error'"),
        ("emb.state.x", "emb.state"),
        ("zzz", "known columns: counts"),
    ],
)
def test_unknown_columns(name: str, hint: str) -> None:
    with pytest.raises(UnknownColumn) as caught:
        bound(t(name).is_null() & TRUE)
    assert hint in str(caught.value.hint)


def test_unknown_columns_are_found_even_where_the_answer_is_clear() -> None:
    with pytest.raises(UnknownColumn):
        bound(FALSE & (t("titel") == "x"))


def test_names_resolve() -> None:
    meta, emb = TABLE.column("meta"), TABLE.column("emb")
    assert resolve("meta.tags[0]", TABLE) == Target(meta, ("tags", 0))
    assert resolve('meta["tags"][0]', TABLE).name == "meta.tags[0]"
    assert resolve('meta["odd.key"]', TABLE) == Target(meta, ("odd.key",))
    assert resolve("emb.state", TABLE) == Target(emb, state=True)
    assert (resolve("emb.state", TABLE).type, resolve("emb.state", TABLE).name) == (
        ColumnType.STRING,
        "emb.state",
    )
    assert resolve("meta.state", TABLE) == Target(meta, ("state",))
    assert resolve("order", TABLE) == Target(TABLE.column("order"))


@given(
    st.lists(
        st.integers(0, 10**8) | st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=5)
    )
)
def test_any_path_has_one_spelling(path: list[str | int]) -> None:
    target = Target(TABLE.column("meta"), tuple(path))
    assert split_name(target.name) == ("meta", tuple(path))
    assert resolve(target.name, TABLE) == target


def test_only_resolved_nodes_are_bound() -> None:
    with pytest.raises(InvalidFilter, match="use parse_filter"):
        bind(Combination(op="and", args=(SqlFilter(sql="stars = 1"),)), TABLE)  # type: ignore[arg-type]


@given(predicates())
def test_a_complement_binds_to_the_complement(predicate: Predicate) -> None:
    once = bound(predicate)
    assert bound(not_(parse_filter(predicate))) in (not_(once), TRUE, FALSE)
    assert bound(not_(not_(parse_filter(predicate)))) == once
