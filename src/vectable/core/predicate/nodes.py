"""The nodes of a filter. The Python object is the request body and the OpenAPI schema, field for field."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union

from pydantic import Discriminator, Field, Tag, model_validator
from typing_extensions import TypeAliasType

from vectable.core.predicate.values import frozen_value
from vectable.core.schema import Frozen
from vectable.errors import InvalidFilter

Operator = Literal[
    "=",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "in",
    "not in",
    "between",
    "like",
    "ilike",
    "starts_with",
    "contains",
    "is null",
    "is not null",
]
OPERATORS: tuple[Operator, ...] = Operator.__args__  # type: ignore[attr-defined]


class Node(Frozen):
    """A node that holds for a row or not. Combine nodes with `&`, `|` and `~`."""

    def __and__(self, other: Predicate) -> Predicate:
        return and_(self._operands(other)) if isinstance(other, Node) else NotImplemented

    def __or__(self, other: Predicate) -> Predicate:
        return or_(self._operands(other)) if isinstance(other, Node) else NotImplemented

    def __invert__(self) -> Predicate:
        return not_(self)  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        raise InvalidFilter(
            "a filter has no truth value of its own",
            hint="use & | ~ instead of and/or/not, and .between(a, b) instead of a <= x <= b",
        )

    def __str__(self) -> str:
        from vectable.core.predicate.spelling import spelled  # it knows the nodes

        return spelled(self, brief=True)  # type: ignore[arg-type]

    def _operands(self, other: Predicate) -> tuple[Predicate, ...]:
        return (self, other)  # type: ignore[return-value]


class Clause(Node):
    """One comparison. `column` is a column, a JSON path ("meta.stars", "meta.tags[0]") or a cell's state
    ("emb.state"). `value` is a list for `in`, `not in` and (two ends, inclusive) `between`, and absent for
    `is null` and `is not null`."""

    column: str = Field(examples=["stars", "meta.stars", "teaches_embedding.state"])
    operator: Operator
    value: Any = Field(default=None, examples=[7, "TypeScript", ["Python", "Rust"]])

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, data: Any) -> Any:
        listed = isinstance(data, dict) and data.get("operator") in ("in", "not in", "between")
        if listed and isinstance(data.get("value"), list):
            return {**data, "value": tuple(data["value"])}
        return data

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Clause):
            return NotImplemented
        return (self.column, self.operator) == (other.column, other.operator) and frozen_value(
            self.value
        ) == frozen_value(other.value)

    def __hash__(self) -> int:
        return hash((self.column, self.operator, frozen_value(self.value)))


class Combination(Node):
    """All (`and`) or at least one (`or`) of `args`. Without `args`: `and` is true, `or` is false."""

    op: Literal["and", "or"]
    args: tuple[Nested, ...]


class Negation(Node):
    """Exactly the rows for which `arg` does not hold, rows with nulls included."""

    op: Literal["not"] = "not"
    arg: Nested


class SqlFilter(Frozen):
    """A filter as text, e.g. "quality_score >= ? and language in (?, ?)", with one parameter for each `?`.
    It is parsed into the same nodes and never executed as text."""

    sql: str = Field(examples=["quality_score >= ? and language in (?, ?)"])
    params: tuple[Any, ...] = Field(default=(), examples=[[7, "Python", "Rust"]])


def _kind(value: Any) -> str | None:
    if isinstance(value, dict):
        if "sql" in value:
            return "sql"
        if "op" in value:
            return "negation" if value["op"] == "not" else "combination"
        return "clause" if "column" in value or "operator" in value else None
    if isinstance(value, (list, tuple)):
        return "list"
    return _KINDS.get(type(value))


_KINDS: dict[type, str] = {
    Clause: "clause",
    Combination: "combination",
    Negation: "negation",
    SqlFilter: "sql",
}

Predicate: TypeAlias = Clause | Combination | Negation
"""A resolved filter: what `parse_filter` returns, free of `SqlFilter` and lists at every level."""

if TYPE_CHECKING:
    Filter: TypeAlias = "Clause | Combination | Negation | SqlFilter | list[Any]"
    # Clients may nest any Filter; the code below the parser only ever meets resolved nodes.
    Nested: TypeAlias = "Clause | Combination | Negation"
else:
    Filter = TypeAliasType(
        "Filter",
        Annotated[
            Union[  # noqa: UP007 - `|` does not take the alias by name
                Annotated[Clause, Tag("clause")],
                Annotated[Combination, Tag("combination")],
                Annotated[Negation, Tag("negation")],
                Annotated[SqlFilter, Tag("sql")],
                Annotated[list["Filter"], Tag("list")],
            ],
            Discriminator(
                _kind,
                custom_error_type="filter",
                custom_error_message="a filter is a clause {column, operator, value}, a list of filters, "
                '{op: "and" | "or", args}, {op: "not", arg} or {sql, params}',
            ),
        ],
    )
    Nested = Filter
"""What clients may send as a filter, at any level."""

Combination.model_rebuild()
Negation.model_rebuild()

TRUE = Combination(op="and", args=())
"""Holds for every row."""
FALSE = Combination(op="or", args=())
"""Holds for no row."""


def _combined(op: Literal["and", "or"], args: Iterable[Predicate]) -> Predicate:
    flat: list[Predicate] = []
    for arg in args:
        if isinstance(arg, Combination) and arg.op == op:
            flat.extend(arg.args)
        else:
            flat.append(arg)
    return flat[0] if len(flat) == 1 else Combination(op=op, args=tuple(flat))


def and_(args: Iterable[Predicate]) -> Predicate:
    """All of `args`, flattened one level; of none, TRUE; of one, that one."""
    return _combined("and", args)


def or_(args: Iterable[Predicate]) -> Predicate:
    """Any of `args`, flattened one level; of none, FALSE; of one, that one."""
    return _combined("or", args)


def columns_of(predicate: Predicate) -> frozenset[str]:
    """The names of every column, path and state the clauses of `predicate` look at."""
    if isinstance(predicate, Clause):
        return frozenset((predicate.column,))
    if isinstance(predicate, Negation):
        return columns_of(predicate.arg)
    return frozenset().union(*map(columns_of, predicate.args))


def not_(arg: Predicate) -> Predicate:
    """The complement of `arg`; of a negation, what it negates."""
    return arg.arg if isinstance(arg, Negation) else Negation(op="not", arg=arg)
