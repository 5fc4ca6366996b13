"""Queries: immutable requests. The object is the request body of `/query`, field for field."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, field_serializer
from pydantic_core import PydanticCustomError

from vectable.core.predicate import TRUE, Combination, Filter, Predicate, parse_filter
from vectable.core.schema import Frozen
from vectable.errors import InvalidInput

MAX_LIMIT = 10_000
MAX_OFFSET = 2**53 - 1
"""Whatever may count rows, JSON clients included, holds it exactly."""
DEFAULT_LIMIT = 100
SCORE = "score"
SCORE_ALIASES = frozenset({"score", "similarity_score"})


class OrderTerm(Frozen):
    """One sort term, written "-stars" or "title". Nulls are last both ways; the key is the final term."""

    column: str
    descending: bool = False

    @classmethod
    def parse(cls, text: str | OrderTerm) -> OrderTerm:
        """ "-stars" is descending, "stars" or "+stars" ascending; aliases of the score become "score"."""
        if isinstance(text, OrderTerm):
            return text
        if not isinstance(text, str) or not text.lstrip("+-"):
            raise InvalidInput(f"{text!r} is not a sort term", hint='write "title" or "-stars"')
        name = text[1:] if text[0] in "+-" else text
        return cls(column=SCORE if name in SCORE_ALIASES else name, descending=text[0] == "-")

    def __str__(self) -> str:
        return ("-" if self.descending else "") + self.column


_BASE64 = {"type": "string", "contentEncoding": "base64"}


def _only(title: str, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": title,
        "type": "object",
        "properties": {name: schema},
        "required": [name],
        "additionalProperties": False,
    }


Sought = Annotated[
    Any,
    WithJsonSchema(
        {
            "description": "A text, a vector of the column's dimensions, or an image.",
            "oneOf": [
                {"title": "Text", "type": "string", "minLength": 1},
                {"title": "Numbers", "type": "array", "items": {"type": "number"}, "minItems": 1},
                _only("Base64", "base64", {**_BASE64, "description": "Little-endian float32 components."}),
                _only("Image", "image", {"description": '{"base64": …} or a data: URI.'}),
            ],
        }
    ),
]
"""What a search looks for, in any of its spellings."""


def _whole(value: Any) -> Any:
    """numpy's integers are integers, as is 5.0; text that only looks like one is not."""
    if isinstance(value, (str, bytes, bool)):
        raise PydanticCustomError("int_type", "must be an integer")
    return value


def _real(value: Any) -> Any:
    if isinstance(value, (str, bytes, bool)):
        raise PydanticCustomError("float_type", "must be a number")
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
Real = Annotated[float, BeforeValidator(_real)]


class Similar(Frozen):
    """Nearest to what: `to` is text (a string), an image ({"image": …} or bytes), or a vector (numbers, numpy
    array, {"base64": …}). `threshold` is a minimum score, inclusive."""

    column: str
    to: Sought
    threshold: Real | None = Field(default=None, allow_inf_nan=False)
    exact: bool = Field(default=False, strict=True)


def _order(value: Any) -> Any:
    terms = [value] if isinstance(value, (str, OrderTerm)) else value
    return tuple(OrderTerm.parse(t) for t in terms) if isinstance(terms, (list, tuple)) else terms


class Query(Frozen):
    """What to read: see `/query` in the API contract. `cursor` continues a page and excludes `offset`."""

    select: tuple[str, ...] | None = None
    where: Filter | None = None
    similar: Similar | None = None
    order_by: Annotated[
        tuple[OrderTerm, ...], BeforeValidator(_order, json_schema_input_type=str | list[str])
    ] = Field(default=(), examples=[["-stars", "title"]])
    limit: Whole = Field(default=DEFAULT_LIMIT, ge=0, le=MAX_LIMIT)
    offset: Whole = Field(default=0, ge=0, le=MAX_OFFSET)
    cursor: str | None = None

    @field_serializer("order_by")
    def _written(self, terms: tuple[OrderTerm, ...]) -> list[str]:
        return [str(term) for term in terms]

    @property
    def predicate(self) -> Predicate:
        """`where` as resolved nodes. Raises InvalidFilter."""
        return TRUE if self.where is None else parse_filter(self.where)

    def and_where(self, where: Any) -> Self:
        """This query narrowed by one more filter."""
        more = parse_filter(where)
        both = more if self.where is None else Combination(op="and", args=(self.predicate, more))
        return self.model_copy(update={"where": both})
