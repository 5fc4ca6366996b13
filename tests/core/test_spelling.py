"""Filters spelt out: what is written is read back as the same filter."""

from __future__ import annotations

import datetime as dt
from typing import Any

from hypothesis import given

from tests.core.filter_samples import clauses, predicates
from vectable.core.predicate import FALSE, TRUE, Clause, Field, Predicate, parse_filter
from vectable.core.predicate.spelling import spelled

t = Field


def _sayable(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_sayable, value))
    return value is None or isinstance(value, (str, int, float))


@given(predicates(clauses.filter(lambda c: isinstance(c, Clause) and _sayable(c.value))))
def test_what_is_written_reads_back_as_the_same_filter(predicate: Predicate) -> None:
    canonical = parse_filter(predicate)
    assert parse_filter(spelled(canonical)) == canonical


def test_reads_like_the_filter_people_would_write() -> None:
    wanted = (t("stars") >= 7) & ((t("language") == "Go") | ~t("title").like("it's%")) & t("x").is_null()
    assert str(wanted) == "stars >= 7 and (language = 'Go' or not (title like 'it''s%')) and x is null"
    assert (
        str(t("tags").contains("a") & t("n").between(-1, 2.5))
        == "contains(tags, 'a') and n between -1 and 2.5"
    )
    assert str(t('meta["a b"]')[0] == True) == 'meta."a b"[0] = true'  # noqa: E712
    assert (str(TRUE), str(FALSE)) == ("true", "false")


def test_odd_names_are_quoted() -> None:
    assert str(Clause(column="order", operator="=", value=1)) == "order = 1"
    assert str(Clause(column="in", operator="=", value=1)) == '"in" = 1'


def test_moments_and_json_are_shown() -> None:
    moment = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    assert str(t("made") > moment) == "made > '2026-01-31T12:00:00Z'"
    assert str(t("meta") == {"a": [1, None]}) == 'meta = {"a": [1, null]}'


def test_long_filters_are_cut_where_people_read_them() -> None:
    many = t("n").in_(range(1_000))
    assert str(many) == "n in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, … 990 more)"
    assert spelled(many).count(",") == 999
    assert len(str(t("s") == "x" * 5_000)) < 120
    assert str(t("n") < 10**5_000) == "n < an integer of 16610 bits"
