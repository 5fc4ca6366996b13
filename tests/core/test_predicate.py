"""Filters as nodes: JSON, Python, limits, the request body and its schema."""

from __future__ import annotations

import copy
import datetime as dt
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from pydantic import TypeAdapter, ValidationError

from tests.core.filter_samples import predicates
from vectable.core.predicate import (
    FALSE,
    MAX_DEPTH,
    MAX_IN_VALUES,
    MAX_NODES,
    OPERATORS,
    TRUE,
    Clause,
    Combination,
    Field,
    Filter,
    Negation,
    Predicate,
    SqlFilter,
    and_,
    columns_of,
    not_,
    or_,
    parse_filter,
)
from vectable.errors import InvalidFilter

t = Field
FILTERS: TypeAdapter[Any] = TypeAdapter(Filter)

SPELLINGS: list[tuple[Predicate, Any, str, tuple[Any, ...]]] = [
    (t("a") == 1, {"column": "a", "operator": "=", "value": 1}, "a = ?", (1,)),
    (t("a") == "x", {"column": "a", "operator": "=", "value": "x"}, "a = 'x'", ()),
    (t("a") == None, {"column": "a", "operator": "is null"}, "a IS NULL", ()),  # noqa: E711
    (t("a") != None, {"column": "a", "operator": "is not null"}, "a is Not null", ()),  # noqa: E711
    (t("a") == True, {"column": "a", "operator": "=", "value": True}, "a = TRUE", ()),  # noqa: E712
    (t("a") != -1.5, {"column": "a", "operator": "!=", "value": -1.5}, "a <> -1.5", ()),
    (t("a") < 3, {"column": "a", "operator": "<", "value": 3}, "3 > a", ()),
    (t("a") <= 3, {"column": "a", "operator": "<=", "value": 3}, "3 >= a", ()),
    (t("a").in_((1, 2)), {"column": "a", "operator": "in", "value": [1, 2]}, "a in (?, 2)", (1,)),
    (t("a").not_in([]), {"column": "a", "operator": "not in", "value": []}, "a not in ()", ()),
    (~t("a").in_([1]), {"op": "not", "arg": {"column": "a", "operator": "in",
    "value": [1]}}, "not a in (1)", ()),
    (t("a").between(1, 2), {"column": "a", "operator": "between",
    "value": [1, 2]}, "a between 1 and ?", (2,)),
    (t("a").like("x%"), {"column": "a", "operator": "like", "value": "x%"}, "a LIKE 'x%'", ()),
    (~t("a").like("x%"), {"op": "not", "arg": {"column": "a", "operator": "like",
    "value": "x%"}}, "a not like 'x%'", ()),
    (t("a").ilike("x"), {"column": "a", "operator": "ilike", "value": "x"}, "a ilike ?", ("x",)),
    (t("a").startswith("'"), {"column": "a", "operator": "starts_with",
    "value": "'"}, "starts_with(a, '''')", ()),
    (t("a").contains("%"), {"column": "a", "operator": "contains", "value": "%"}, "contains(a, '%')", ()),
    (t("m")["stars"] > 1, {"column": "m.stars", "operator": ">", "value": 1}, "m.stars > 1", ()),
    (t("m")["a"]["b"] == 1, {"column": 'm["a"].b', "operator": "=", "value": 1}, 'm.a."b" = 1', ()),
    (t("m")["tags"][0] == 1, {"column": "m.tags[0]", "operator": "=", "value": 1}, "m['tags'][0] = 1", ()),
    (t("m")["odd.key"] == 1, {"column": 'm["odd.key"]', "operator": "=",
    "value": 1}, 'm."odd.key" = 1', ()),
    (t("emb").state == "new", {"column": "emb.state", "operator": "=",
    "value": "new"}, "emb.state = 'new'", ()),
    (t("m") == [1, {"a": None}], {"column": "m", "operator": "=",
    "value": [1, {"a": None}]}, "m = ?", ([1, {"a": None}],)),
    (
        (t("a") >= 7) & (t("b") == "x") & (t("c") == 1),
        [
            {"column": "a", "operator": ">=", "value": 7},
            [{"column": "b", "operator": "=", "value": "x"}, {"column": "c", "operator": "=", "value": 1}],
        ],
        "a >= 7 and (b = 'x' and c = 1)",
        (),
    ),
    (
        (t("a") == 1) | (t("b") == 2) & ~(t("c") == 3),
        {
            "op": "or",
            "args": [
                {"column": "a", "operator": "=", "value": 1},
                {"op": "and", "args": [{"sql": "b = ?", "params": [2]}, {"sql": "not c = 3"}]},
            ],
        },
        "a = 1 or b = 2 and not c = 3",
        (),
    ),
    (TRUE, [], "true", ()),
    (FALSE, {"op": "or", "args": []}, "false", ()),
]  # fmt: skip


def test_the_spellings_cover_every_operator() -> None:
    def operators(node: Predicate) -> set[str]:
        if isinstance(node, Clause):
            return {node.operator}
        parts = [node.arg] if isinstance(node, Negation) else node.args
        return set().union(*(operators(part) for part in parts))

    covered = set().union(*(operators(node) for node, *_ in SPELLINGS))
    assert covered == set(OPERATORS)


@pytest.mark.parametrize(("python", "body", "sql", "params"), SPELLINGS)
def test_three_spellings_are_one(python: Predicate, body: Any, sql: str, params: tuple[Any, ...]) -> None:
    assert parse_filter(python) == python
    assert parse_filter(body) == python
    assert parse_filter(FILTERS.validate_python(body)) == python
    assert parse_filter(FILTERS.validate_json(json.dumps(body))) == python
    assert parse_filter(SqlFilter(sql=sql, params=params)) == python
    assert parse_filter({"sql": sql, "params": list(params)}) == python
    assert hash(parse_filter(body)) == hash(python)


def test_no_filter_is_everything_and_plain_text_is_sql() -> None:
    assert parse_filter(None) == TRUE
    assert parse_filter("a = 1") == (t("a") == 1)
    assert parse_filter([t("a") == 1, "b = 2", None]) == (t("a") == 1) & (t("b") == 2)


@given(predicates())
def test_the_object_is_the_request_body(predicate: Predicate) -> None:
    parsed = parse_filter(predicate)
    assert parse_filter(parsed) == parsed
    if "made" in columns_of(parsed):
        return  # times travel as text, which only a table can tell apart
    body = parsed.model_dump_json()
    assert parse_filter(FILTERS.validate_json(body)) == parsed
    assert parse_filter(json.loads(body)) == parsed
    assert pickle.loads(pickle.dumps(parsed)) == parsed == copy.deepcopy(parsed)


def test_equality_keeps_bools_and_numbers_apart() -> None:
    assert (t("a") == 1).value == (t("a") == True).value  # noqa: E712 - to Python they are equal
    one, true = t("a") == 1, t("a") == True  # noqa: E712
    assert one.__eq__(true) is False
    assert len({one, true, t("a") == 1.0}) == 2
    assert parse_filter([one]) != parse_filter([true])
    assert hash(t("m") == {"a": [1]}) == hash(t("m") == {"a": [1.0]})


def test_canonical_form() -> None:
    a, b, c = t("a") == 1, t("b") == 1, t("c") == 1
    assert and_([]) == TRUE
    assert or_([]) == FALSE
    assert and_([a]) == a
    assert not_(not_(a)) == a
    assert (a & b) & c == a & (b & c) == and_([a, b, c])
    nested = Combination(op="and", args=(Combination(op="and", args=(a,)), Negation(op="not", arg=~b)))
    assert parse_filter(nested) == a & b
    assert parse_filter({"op": "or", "args": [FALSE, a]}) == a
    assert columns_of((a | b) & ~c & (t("m")["x"] == 1)) == {"a", "b", "c", "m.x"}


def nested(levels: int, shape: str) -> Any:
    node: Any = {"column": "a", "operator": "=", "value": 1}
    for i in range(levels):
        if shape == "list":
            node = [node]
        elif shape == "not":
            node = {"op": "not", "arg": node}
        else:
            node = {"op": "and" if i % 2 else "or", "args": [node, {"column": "b", "operator": "is null"}]}
    return node


@pytest.mark.parametrize("shape", ["list", "not", "and"])
def test_depth_is_limited(shape: str) -> None:
    parse_filter(nested(MAX_DEPTH - 1, shape))
    for levels in (MAX_DEPTH, 1_000, 100_000):
        with pytest.raises(InvalidFilter, match="nested more than 64"):
            parse_filter(nested(levels, shape))


@pytest.mark.parametrize("shape", ["list", "not", "and"])
def test_a_request_body_of_any_depth_is_a_validation_error_at_worst(shape: str) -> None:
    parse_filter(FILTERS.validate_python(nested(MAX_DEPTH - 1, shape)))
    for levels in (MAX_DEPTH, 200, 5_000):
        with pytest.raises((InvalidFilter, ValidationError)):
            parse_filter(FILTERS.validate_python(nested(levels, shape)))


def test_depth_is_limited_for_nodes_too() -> None:
    node: Predicate = t("a") == 1
    for i in range(5_000):
        node = Combination(op="and" if i % 2 else "or", args=(node,))
    with pytest.raises(InvalidFilter, match="nested"):
        parse_filter(node)


def test_the_number_of_nodes_is_limited() -> None:
    clause = {"column": "a", "operator": "=", "value": 1}
    parse_filter([clause] * (MAX_NODES - 1))
    with pytest.raises(InvalidFilter, match="more than 1000 parts"):
        parse_filter([clause] * MAX_NODES)
    half = "a = 1" + " or a = 1" * 400
    parse_filter(half)
    with pytest.raises(InvalidFilter, match="more than 1000 parts"):
        parse_filter([half, f"({half}) and b = 1", half])


def test_the_number_of_values_is_limited() -> None:
    parse_filter({"column": "a", "operator": "in", "value": list(range(MAX_IN_VALUES))})
    with pytest.raises(InvalidFilter, match="10001 values"):
        parse_filter({"column": "a", "operator": "not in", "value": list(range(MAX_IN_VALUES + 1))})
    with pytest.raises(InvalidFilter, match="10001 values"):
        t("a").in_(range(MAX_IN_VALUES + 1))


def deep_value(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


BAD: list[tuple[Any, str]] = [
    ({}, "not a filter"),
    ({"foo": 1}, "has no `operator`"),
    ({"column": "a"}, "has no `operator`"),
    ({"operator": "="}, "has no `column`"),
    ({"column": "a", "op": "=", "value": 1}, "unknown op"),
    ({"column": "a", "operator": "=", "value": 1, "valeu": 2}, "did you mean 'value'"),
    ({"column": 1, "operator": "=", "value": 1}, "named by a string"),
    ({"column": "a", "operator": "==", "value": 1}, "did you mean"),
    ({"column": "a", "operator": "IN", "value": [1]}, "unknown operator"),
    ({"column": "a", "operator": ["="], "value": [1]}, "unknown operator"),
    ({"column": "a", "operator": "=", "value": None}, "is null"),
    ({"column": "a", "operator": "="}, "is null"),
    ({"column": "a", "operator": "is null", "value": True}, "takes no value"),
    ({"column": "a", "operator": "in", "value": "abc"}, "takes a list"),
    ({"column": "a", "operator": "in", "value": {"a": 1}}, "takes a list"),
    ({"column": "a", "operator": "in", "value": [1, None]}, "null"),
    ({"column": "a", "operator": "between", "value": [1]}, "two values"),
    ({"column": "a", "operator": "between", "value": [1, 2, 3]}, "two values"),
    ({"column": "a", "operator": "like", "value": 1}, "takes a string"),
    ({"column": "a", "operator": "like", "value": "abc\\"}, "escape"),
    ({"column": "a", "operator": "ilike", "value": "x" * 10_001}, "10001 characters"),
    ({"column": "a", "operator": "starts_with", "value": ["a"]}, "takes a string"),
    ({"column": "a", "operator": "=", "value": float("nan")}, "finite"),
    ({"column": "a", "operator": "=", "value": float("inf")}, "finite"),
    ({"column": "a", "operator": "in", "value": [-float("inf")]}, "finite"),
    ({"column": "a", "operator": "=", "value": "a\x00b"}, "U\\+0000"),
    ({"column": "a", "operator": "=", "value": "\ud800"}, "surrogate"),
    ({"column": "a", "operator": "=", "value": [{"\udfff": 1}]}, "surrogate"),
    ({"column": "a", "operator": "=", "value": {1: 2}}, "no string"),
    ({"column": "a", "operator": "=", "value": object()}, "object"),
    ({"column": "a", "operator": "=", "value": deep_value(65)}, "64 deep"),
    ({"column": "a", "operator": "=", "value": deep_value(100_000)}, "64 deep"),
    (
        {"column": "a", "operator": "=", "value": dt.datetime.fromisoformat("2026-01-31T12:00:00")},
        "no time zone",
    ),
    ({"column": "", "operator": "is null"}, "not a column name"),
    ({"column": ".a", "operator": "is null"}, "not a column name"),
    ({"column": "a.", "operator": "is null"}, "breaks off"),
    ({"column": "a[x]", "operator": "is null"}, "breaks off"),
    ({"column": "a[-1]", "operator": "is null"}, "breaks off"),
    ({"column": "a[99999999999]", "operator": "is null"}, "breaks off"),
    ({"column": 'a["\\ud800"]', "operator": "is null"}, "surrogate"),
    ({"column": "a\x00", "operator": "is null"}, "U\\+0000"),
    ({"column": "a" * 2_000, "operator": "is null"}, "not a column name"),
    ({"op": "xor", "args": []}, "unknown op"),
    ({"op": {"a": 1}, "args": []}, "unknown op"),
    ({"op": "and"}, "needs `args`"),
    ({"op": "and", "args": {"a": 1}}, "needs `args`"),
    ({"op": "not"}, "needs `arg`"),
    ({"op": "not", "args": []}, "did you mean 'arg'"),
    ({"sql": 1}, "is a string"),
    ({"sql": "a = ?", "params": "x"}, "a list"),
    ({"sql": "a = ?", "params": [1], "args": []}, "no field"),
    (1, "not a filter"),
    (b"a = 1", "not a filter"),
]


@pytest.mark.parametrize(("value", "message"), BAD)
def test_what_cannot_mean_anything_is_refused(value: Any, message: str) -> None:
    with pytest.raises(InvalidFilter, match=message):
        parse_filter(value)


def test_values_of_other_libraries_become_plain() -> None:
    found = t("a").in_(np.arange(3))
    assert [type(v) for v in found.value] == [int] * 3
    assert type((t("a") == np.float32(0.5)).value) is float
    assert type((t("a") == np.bool_(True)).value) is bool
    assert (t("a") == np.array([1, 2])).value == [1, 2]

    class Name(str):
        pass

    assert type((t("a") == Name("x")).value) is str
    moment = (t("a") == dt.datetime(2026, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))).value
    assert (moment, moment.tzinfo) == (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.UTC)


def test_a_filter_has_no_truth_value() -> None:
    for mistake in (
        lambda: (t("a") == 1) and (t("b") == 2),
        lambda: not t("a").is_null(),
        lambda: 1 <= t("a") <= 2,
        lambda: bool(t("a")),
        lambda: t("a") in [t("b")],
    ):
        with pytest.raises(InvalidFilter):
            mistake()


def test_fields_are_hashed_by_name_and_not_compared_with_each_other() -> None:
    assert hash(t("m")["a"]) == hash(t("m.a"))
    assert t('m["a"]').name == "m.a"
    with pytest.raises(InvalidFilter, match="compare a column with a value"):
        _ = t("a") == t("b")
    with pytest.raises(InvalidFilter, match="not a part"):
        t("a")[-1]
    with pytest.raises(TypeError):
        iter(t("a"))  # type: ignore[call-overload]
    with pytest.raises(InvalidFilter, match="takes a list"):
        t("a").in_("abc")


def test_messages_survive_any_integer() -> None:
    with pytest.raises(InvalidFilter, match="bits"):
        parse_filter({"column": "a", "operator": "in", "value": 10**10_000})
    with pytest.raises(InvalidFilter, match="unknown op"):
        parse_filter({"op": 10**10_000})


def test_the_schema_is_a_tagged_union_of_documented_shapes() -> None:
    schema = FILTERS.json_schema()
    shapes = schema["$defs"]["Filter"]["oneOf"]
    names = [s["$ref"].rsplit("/", 1)[-1] for s in shapes if "$ref" in s]
    assert names == ["Clause", "Combination", "Negation", "SqlFilter"]
    assert [s["type"] for s in shapes if "$ref" not in s] == ["array"]
    assert schema["$defs"]["Clause"]["properties"]["operator"]["enum"] == list(OPERATORS)
    assert schema["$defs"]["Negation"]["properties"]["arg"] == {"$ref": "#/$defs/Filter"}
    assert all(schema["$defs"][name]["description"] for name in names)
    with pytest.raises(ValidationError, match="a filter is a clause"):
        FILTERS.validate_python({"foo": 1})


def test_nodes_do_not_change() -> None:
    with pytest.raises(ValidationError):
        (t("a") == 1).value = 2  # type: ignore[misc]
    assert Clause(column="a", operator="in", value=[1]).value == (1,)
