"""Filters: what is pushed, less what the residual takes away, is what the core says a filter means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectable.core.evaluate import matches
from vectable.core.predicate import FALSE, TRUE, Predicate, bind, not_, parse_filter
from vectable.interfaces import Backend, SchemaChange
from vectable.testing.backend_suite.fixtures import PROPERTY, SuiteFixtures
from vectable.testing.backend_suite.subject import Subject
from vectable.testing.samples import HOSTILE_STRINGS, every_type_rows, every_type_table, vector_column
from vectable.testing.strategies import predicates, rows

LIKE_TEXTS = (
    "abc",
    "ABC",
    "a%c",
    "a_c",
    "a\\c",
    "a\nc",
    "aéc",
    "aÉc",
    "",
    "%",
    "\\",
    "ac",
    "a🦀c",
    "ß",
    "SS",
    "İ",
)
LIKE_PATTERNS = (
    "a%",
    "%c",
    "a_c",
    "a\\%c",
    "a\\_c",
    "a\\\\c",
    "%",
    "",
    "_",
    "A%",
    "aÉc",
    "a%\\%",
    "ss",
    "ß",
    "i",
    "__",
)


async def filtered(subject: Subject, where: Predicate) -> set[str]:
    """The ids the backend finds; the same by scan, by count and by key."""
    found = await subject.ids(where)
    async with subject.backend.view(subject.table, subject.mark) as view:
        pushed = subject.backend.push(subject.table, where)
        count = await view.count(pushed)
    assert count >= len(found)
    if pushed.residual is None:
        assert count == len(found)
    return found


def expected(stored: list[dict[str, Any]], where: Predicate) -> set[str]:
    return {r["id"] for r in stored if matches(where, {**r, "emb": None, "emb.state": "empty"})}


def named(texts: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each text, in a string and in a json column, and one of nulls."""
    rows: list[dict[str, Any]] = [{"id": "null", "title": None, "meta": None}]
    rows += [{"id": f"{n:03d}", "title": text, "meta": {"name": text}} for n, text in enumerate(texts)]
    return rows


class FilterTests(SuiteFixtures):
    @PROPERTY
    @given(data=st.data())
    async def test_filters_mean_the_same_everywhere(self, backend: Backend, data: st.DataObject) -> None:
        table = every_type_table(vector_column("emb", 4))
        stored = data.draw(rows())
        subject = await Subject.create(backend, table)
        await subject.put(*stored)
        for where in data.draw(st.lists(predicates(table), min_size=1, max_size=6)):
            assert await filtered(subject, where) == expected(stored, where), where
        await backend.alter(table, SchemaChange("drop_table"))

    async def test_everything_and_nothing(self, subject: Subject) -> None:
        await subject.put({"id": "a"}, {"id": "b"})
        assert await filtered(subject, TRUE) == {"a", "b"}
        assert await filtered(subject, FALSE) == set()

    @pytest.mark.parametrize("operator", ["=", "!=", "<", "<=", ">", ">=", "starts_with", "contains"])
    async def test_hostile_text(self, subject: Subject, operator: str) -> None:
        texts = [t for t in HOSTILE_STRINGS if len(t) < 900]
        stored = named(texts)
        await subject.put(*stored)
        for text in texts:
            for column in ("title", "meta.name"):
                where = _bound(subject, {"column": column, "operator": operator, "value": text})
                assert await filtered(subject, where) == expected(stored, where), (column, text)

    @pytest.mark.parametrize("operator", ["like", "ilike"])
    async def test_patterns(self, subject: Subject, operator: str) -> None:
        stored = named(LIKE_TEXTS)
        await subject.put(*stored)
        for pattern in LIKE_PATTERNS:
            for column in ("title", "meta.name"):
                where = _bound(subject, {"column": column, "operator": operator, "value": pattern})
                assert await filtered(subject, where) == expected(stored, where), (column, pattern)
                assert await filtered(subject, not_(where)) == expected(stored, not_(where))

    @pytest.mark.parametrize("column", ["title", "stars", "rating", "ok", "seen", "tags", "sizes", "weights"])
    async def test_every_value_finds_itself(self, subject: Subject, column: str) -> None:
        stored = every_type_rows(subject.table)
        await subject.put(*stored)
        operators = ["=", "!=", "in", "not in"]
        operators += ["<", "<=", ">", ">="] if column in ("title", "stars", "rating", "seen") else []
        values = {repr(row[column]): row[column] for row in stored if row[column] is not None}
        for value in values.values():
            for operator in operators:
                literal = [value, value] if operator in ("in", "not in") else value
                where = _bound(subject, {"column": column, "operator": operator, "value": literal})
                assert await filtered(subject, where) == expected(stored, where), (operator, value)

    @pytest.mark.parametrize(
        "column", ["title", "stars", "rating", "ok", "seen", "meta", "tags", "picture", "emb"]
    )
    async def test_nulls_satisfy_nothing_but_is_null(self, subject: Subject, column: str) -> None:
        stored = every_type_rows(subject.table)
        await subject.put(*stored)
        null = _bound(subject, {"column": column, "operator": "is null"})
        there = _bound(subject, {"column": column, "operator": "is not null"})
        assert await filtered(subject, null) == expected(stored, null)
        assert await filtered(subject, there) == expected(stored, there)
        assert await filtered(subject, not_(null)) == expected(stored, there)

    async def test_missing_is_neither_null_nor_there(self, subject: Subject) -> None:
        await subject.put(
            {"id": "null", "meta": {"a": None}},
            {"id": "missing", "meta": {}},
            {"id": "empty", "meta": {"a": []}},
            {"id": "nothing", "meta": None},
            {"id": "false", "meta": {"a": False}},
            {"id": "zero", "meta": {"a": 0}},
            {"id": "one", "meta": {"a": 1}},
            {"id": "one point", "meta": {"a": 1.0}},
            {"id": "true", "meta": {"a": True}},
            {"id": "text", "meta": {"a": "1"}},
        )

        async def found(operator: str, *value: Any) -> set[str]:
            clause = {"column": "meta.a", "operator": operator, **({"value": value[0]} if value else {})}
            return await filtered(subject, _bound(subject, clause))

        assert await found("is null") == {"null"}
        everything = await subject.ids()
        there = everything - {"null", "missing", "nothing"}
        assert await found("is not null") == there
        assert await found("=", 1) == {"one", "one point"}
        assert await found("=", True) == {"true"}
        assert await found("=", "1") == {"text"}
        assert await found("=", []) == {"empty"}
        assert await found("!=", 1) == there - {"one", "one point"}
        assert await found("<", 1) == {"zero"}
        assert await found("in", [0, True, "1"]) == {"zero", "true", "text"}
        assert await found("not in", [0, True, "1"]) == there - {"zero", "true", "text"}

    async def test_large_lists(self, subject: Subject) -> None:
        await subject.put(*({"id": f"{i:03d}", "stars": i, "title": str(i)} for i in range(50)))
        where = _bound(subject, {"column": "stars", "operator": "in", "value": list(range(40, 10_040))})
        assert len(await filtered(subject, where)) == 10
        where = _bound(
            subject, {"column": "title", "operator": "not in", "value": [str(i) for i in range(9_999)]}
        )
        assert await filtered(subject, where) == set()

    async def test_deep_and_wide_filters(self, subject: Subject) -> None:
        await subject.put({"id": "a", "stars": 1}, {"id": "b", "stars": None})
        deep: Any = {"column": "stars", "operator": "=", "value": 1}
        for _ in range(30):
            deep = {
                "op": "not",
                "arg": {"op": "or", "args": [deep, {"column": "stars", "operator": ">", "value": 9}]},
            }
        where = _bound(subject, deep)
        stored: list[dict[str, Any]] = [{"id": "a", "stars": 1}, {"id": "b", "stars": None}]
        assert await filtered(subject, where) == expected(stored, where)
        clauses = [{"column": "stars", "operator": "=", "value": i} for i in range(900)]
        where = _bound(subject, {"op": "or", "args": clauses})
        assert await filtered(subject, where) == {"a"}


def _bound(subject: Subject, data: Any) -> Predicate:
    return bind(parse_filter(data), subject.table)
