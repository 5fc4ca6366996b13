"""Filters as SQL: the texts as a table, and each text run on the engine against the oracle."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given

from tests.core.filter_samples import TABLE, TEXTS, clauses, column_clauses, predicates, rows
from vectable.backends.compile.sql import SQLITE, Compiled, compile_sql, residual
from vectable.core.evaluate import matches, row_test
from vectable.core.key import timestamp_micros
from vectable.core.predicate import (
    FALSE,
    TRUE,
    Clause,
    Combination,
    Field,
    Negation,
    Predicate,
    Target,
    bind,
    parse_filter,
)
from vectable.core.schema import ColumnType

_STORED = {ColumnType.INT: "INTEGER", ColumnType.FLOAT: "REAL", ColumnType.BOOL: "INTEGER",
           ColumnType.TIMESTAMP: "INTEGER", ColumnType.IMAGE: "BLOB", ColumnType.VECTOR: "BLOB"}  # fmt: skip


def column_sql(target: Target) -> str | None:
    return None if target.path else '"' + target.name + '"'


def compiled(where: Any) -> Compiled:
    return compile_sql(bind(parse_filter(where), TABLE), TABLE, column_sql)


def stored(value: Any, type_: ColumnType) -> Any:
    if value is None:
        return None
    if type_ is ColumnType.TIMESTAMP:
        return timestamp_micros(value)
    if type_ is ColumnType.VECTOR:
        return b"vector"
    return json.dumps(value) if _STORED.get(type_) is None and type_ is not ColumnType.STRING else value


def database(found: Sequence[dict[str, Any]]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    columns = [(c.name, c.type) for c in TABLE.columns] + [("emb.state", ColumnType.STRING)]
    connection.execute(
        "CREATE TABLE r (" + ", ".join(f'"{n}" {_STORED.get(t, "TEXT")}' for n, t in columns) + ")"
    )
    marks = ", ".join("?" * len(columns))
    for row in found:
        connection.execute(f"INSERT INTO r VALUES ({marks})", [stored(row[n], t) for n, t in columns])
    return connection


def selected(connection: sqlite3.Connection, sql: Compiled) -> set[str]:
    return {i for (i,) in connection.execute(f"SELECT id FROM r WHERE {sql.text}", sql.params)}


t = Field
NOON = "2026-01-31T12:00:00Z"
TABLE_OF_TEXTS: list[tuple[Predicate, str, tuple[Any, ...], Predicate | None]] = [
    (t("title") == "O'Neil", '"title" = ?', ("O'Neil",), None),
    (t("title") != "", '"title" <> ?', ("",), None),
    (t("order") < 5, '"order" < ?', (5,), None),
    (t("stars") < 5.5, '"stars" <= ?', (5,), None),
    (t("stars") > 5.5, '"stars" >= ?', (6,), None),
    (t("stars") == 5.5, "FALSE", (), None),
    (t("stars") != 5.5, '"stars" IS NOT NULL', (), None),
    (t("stars") <= 10**30, '"stars" <= ?', (2**63 - 1,), None),
    (t("stars") > 10**30, "FALSE", (), None),
    (t("stars").between(-(10**30), 1.5), '"stars" BETWEEN ? AND ?', (-(2**63), 1), None),
    (t("stars").in_([1, 2.5, 10**30]), '"stars" IN (?)', (1,), None),
    (t("stars").in_([]), "FALSE", (), None),
    (t("stars").not_in([]), '"stars" IS NOT NULL', (), None),
    (t("score") >= 7, '"score" >= ?', (7.0,), None),
    (t("score") < 2**53 + 1, '"score" <= ?', (2.0**53,), None),
    (t("open") == True, '"open" = ?', (1,), None),  # noqa: E712
    (t("made") >= NOON, '"made" >= ?', (1_769_860_800_000_000,), None),
    (t("title").is_null(), '"title" IS NULL', (), None),
    (t("title").not_in(["a", "b"]), '"title" NOT IN (?, ?)', ("a", "b"), None),
    (t("title").startswith("a%"), '("title" >= ? AND "title" < ?)', ("a%", "a&"), None),
    (t("title").startswith("\ud7ff"), '("title" >= ? AND "title" < ?)', ("\ud7ff", "\ue000"), None),
    (t("title").startswith("a\U0010ffff"), '("title" >= ? AND "title" < ?)', ("a\U0010ffff", "b"), None),
    (t("title").startswith("\U0010ffff"), '"title" >= ?', ("\U0010ffff",), None),
    (t("title").startswith(""), '"title" IS NOT NULL', (), None),
    (t("title").contains("%"), 'instr("title", ?) > 0', ("%",), None),
    (t("title").like("abc"), '"title" = ?', ("abc",), None),
    (t("title").like("ab%"), '("title" >= ? AND "title" < ?)', ("ab", "ac"), None),
    (t("title").like(r"%\%%"), 'instr("title", ?) > 0', ("%",), None),
    (t("title").like("a_c"), '("title" >= ? AND "title" < ?)', ("a", "b"), t("title").like("a_c")),
    (t("title").ilike("a%"), '"title" IS NOT NULL', (), t("title").ilike("a%")),
    (t("tags").contains("x"), '"tags" IS NOT NULL', (), t("tags").contains("x")),
    (t("meta")["a"].is_null(), '"meta" IS NOT NULL', (), t("meta")["a"].is_null()),
    (t("emb").state == "ready", '"emb.state" = ?', ("ready",), None),
    (t("emb").is_null(), '"emb" IS NULL', (), None),
    (~(t("stars") == 1), '("stars" = ?) IS NOT TRUE', (1,), None),
    (~t("title").ilike("x"), "TRUE", (), ~t("title").ilike("x")),
    (
        (t("stars") == 1) & t("title").ilike("x") & (t("order") == 2),
        '("stars" = ? AND "title" IS NOT NULL AND "order" = ?)',
        (1, 2),
        t("title").ilike("x"),
    ),
    (
        (t("stars") == 1) | ~t("title").ilike("x"),
        "TRUE",
        (),
        (t("stars") == 1) | ~t("title").ilike("x"),
    ),
    (
        ~((t("stars") == 1) | t("title").ilike("x")),
        '("stars" = ?) IS NOT TRUE',
        (1,),
        ~((t("stars") == 1) | t("title").ilike("x")),
    ),
    (TRUE, "TRUE", (), None),
    (FALSE, "FALSE", (), None),
]  # fmt: skip


@pytest.mark.parametrize(("where", "text", "params", "left"), TABLE_OF_TEXTS)
def test_texts_for_sqlite(
    where: Predicate, text: str, params: tuple[Any, ...], left: Predicate | None
) -> None:
    found = compiled(where)
    assert (found.text, found.params, found.residual) == (text, params, left)
    assert [type(p) for p in found.params] == [type(p) for p in params]
    assert selected(database([]), found) == set()


def check(found: list[dict[str, Any]], predicate: Predicate) -> Compiled:
    bound = bind(parse_filter(predicate), TABLE)
    sql = compile_sql(bound, TABLE, column_sql)
    holds = row_test(bound)
    wanted = {row["id"] for row in found if holds(row)}
    connection = database(found)
    got = selected(connection, sql)
    connection.close()
    assert wanted <= got, "not a superset"
    left = sql.residual
    by_id = {row["id"]: row for row in found}
    also = row_test(TRUE if left is None else left)
    assert {i for i in got if also(by_id[i])} == wanted
    assert residual(bound, TABLE, column_sql) == left
    return sql


@given(rows(), predicates())
def test_superset_and_residual_make_the_filter(found: list[dict[str, Any]], predicate: Predicate) -> None:
    check(found, predicate)


@given(rows(), predicates(column_clauses.filter(lambda c: c.operator not in ("like", "ilike"))))
def test_plain_columns_are_pushed_exactly(found: list[dict[str, Any]], predicate: Predicate) -> None:
    assert check(found, predicate).exact


@given(rows(), clauses)
def test_columns_out_of_reach_are_left_to_the_residual(found: list[dict[str, Any]], clause: Clause) -> None:
    bound = bind(parse_filter(clause), TABLE)
    sql = compile_sql(bound, TABLE, lambda _: None)
    assert sql.text in ("TRUE", "FALSE")
    assert sql.exact or sql.residual == bound


def _rows_of_texts() -> list[dict[str, Any]]:
    empty = dict.fromkeys([c.name for c in TABLE.columns]) | {"emb.state": "empty"}
    return [{**empty, "id": str(i), "title": text} for i, text in enumerate([*TEXTS, None])]


@pytest.mark.parametrize("operator", ["=", "!=", "<", "<=", ">", ">=", "starts_with", "contains"])
def test_every_text_against_every_text(operator: Any) -> None:
    found = _rows_of_texts()
    connection = database(found)
    for text in TEXTS:
        clause = Clause(column="title", operator=operator, value=text)
        sql = compile_sql(clause, TABLE, column_sql)
        assert sql.exact
        assert selected(connection, sql) == {row["id"] for row in found if matches(clause, row)}, repr(text)


def test_long_lists_travel_as_one_parameter() -> None:
    found = _rows_of_texts()
    texts = [*TEXTS[::2], *(f"{i}'\"\\" for i in range(9_000))]
    for where in (t("title").in_(texts), t("title").not_in(texts), ~t("title").in_(texts)):
        sql = check(found, where)
        assert len(sql.params) == 1
        assert sql.exact
    integers = [{**found[0], "id": str(i), "stars": n} for i, n in enumerate([0, 2**63 - 1, -(2**63), 7])]
    sql = check(integers, t("stars").in_([2**63 - 1, -(2**63), *range(10, 2_000)]))
    assert (len(sql.params), sql.exact) == (1, True)


def test_long_lists_of_floats_are_exact_too() -> None:
    empty = _rows_of_texts()[0]
    values = [0.1 + i / 7 for i in range(9_000)]
    found = [{**empty, "id": str(i), "score": v} for i, v in enumerate(values[:300])]
    assert check(found, t("score").in_(values)).exact
    assert check(found, t("score").not_in(values[1:])).exact


def test_more_parameters_than_the_engine_takes_go_to_the_residual() -> None:
    lists = [[float(i) + j / 8 for i in range(9_000)] for j in range(4)]
    where = bind(Combination(op="or", args=tuple(t("score").in_(values) for values in lists)), TABLE)
    sql = compile_sql(where, TABLE, column_sql)
    assert (sql.text, sql.params, sql.residual) == ("TRUE", (), where)


@pytest.mark.parametrize("op", ["and", "or"])
def test_wide_filters_stay_within_the_engine_limits(op: Any) -> None:
    found = _rows_of_texts()
    many = tuple(t("title") != f"{i}" if op == "and" else t("title") == f"{i}" for i in range(999))
    check(found, Combination(op=op, args=many))
    # A caller's filter and-ed with a scope may be wider than what one request may ask.
    wide = bind(Combination(op=op, args=many * 4), TABLE)
    sql = compile_sql(wide, TABLE, column_sql)
    holds = row_test(wide)  # prepared once: thousands of clauses for each row take seconds
    assert selected(database(found), sql) == {row["id"] for row in found if holds(row)}


def deep(levels: int, first: bool) -> Predicate:
    node: Predicate = t("title") == "a"
    for i in range(levels):
        other = t("title") != f"{i}"
        args = (node, other) if first else (other, node)
        node = Combination(op="and" if i % 2 else "or", args=args)
    return node


@pytest.mark.parametrize("first", [True, False])
def test_deep_filters_stay_within_the_engine_limits(first: bool) -> None:
    assert check(_rows_of_texts(), deep(63, first)).exact
    node: Predicate = t("title") == "a"
    for i in range(31):
        pair = (node, t("title") != f"{i}") if first else (t("title") != f"{i}", node)
        node = Negation(op="not", arg=Combination(op="and", args=pair))
    assert check(_rows_of_texts(), node).exact


def test_deep_and_wide_at_once() -> None:
    node: Predicate = t("title") == "a"
    for i in range(60):
        others = tuple(t("title") != f"{i}-{j}" for j in range(14))
        node = Combination(op="and" if i % 2 else "or", args=(*others, node))
    check(_rows_of_texts(), node)


def test_the_text_holds_no_value_of_the_caller() -> None:
    for text in TEXTS:
        if len(text) > 3:
            assert text not in compiled(t("title") == text).text.replace('"title"', "")
    assert SQLITE.placeholder(7) == "?"
