"""The steps of a query, shared by tables and queries, synchronous and not. Every step gives a new query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from vectable.core.predicate import Clause, Combination, Field, Negation, SqlFilter, and_, parse_filter
from vectable.core.query import MAX_LIMIT, OrderTerm, Query, Similar
from vectable.core.schema import Table
from vectable.core.values import check_image, check_text
from vectable.errors import InvalidFilter, InvalidInput

Q_co = TypeVar("Q_co", covariant=True)
_NOT_IN_PNG = frozenset({"CMYK", "YCbCr", "LAB", "HSV"})


class Chain(Generic[Q_co]):
    """`t.where(t.stars > 5).similar("react hooks", on="emb").limit(10)`: nothing runs, and nothing is
    changed, until `collect` or another verb of the query asks."""

    @property
    def definition(self) -> Table:
        """The table's definition, as this database handle last saw it."""
        raise NotImplementedError

    def _spec(self) -> Query:
        raise NotImplementedError

    def _derive(self, query: Query) -> Q_co:
        raise NotImplementedError

    def _with(self, **changes: Any) -> Q_co:
        return self._derive(self._spec().model_copy(update=changes))

    def where(self, condition: Any = None, /, *more: Any, **equals: Any) -> Q_co:
        """Keeps rows that satisfy everything given, on top of earlier `where`s.

        `condition`: `t.stars >= 5`, a clause or combination as a dict, a list of those, or SQL-like text
        with `?` for each of `more` ("stars >= ? and language = ?", 5, "Python"). Without text, `more` are
        further conditions; text among them comes with its parameters as a tuple, ("stars >= ?", 5).
        `language="Python"` is equality, `language=None` is null. Raises InvalidFilter."""
        predicates = conditions(condition, more, equals)
        return self._derive(self._spec().and_where(and_(predicates)) if predicates else self._spec())

    def similar(
        self, to: Any, on: str | Field | None = None, *, threshold: float | None = None, exact: bool = False
    ) -> Q_co:
        """The nearest rows first, by column `on` (by default the only vector column there is).

        `to`: text; an image (bytes, {"image": …}, a PIL image); or a vector (numbers, numpy array float[d],
        {"base64": little-endian float32}). `threshold` is the least score a hit may have. `exact=True`
        never uses an approximate path. Raises InvalidInput, UnknownColumn."""
        column = (
            only_vector_column(self.definition) if on is None else self.definition.vector_column(named(on))
        )
        name = column if isinstance(column, str) else column.name
        return self._with(
            similar=checked(Similar, column=name, to=item(to), threshold=threshold, exact=exact)
        )

    def select(self, *columns: str | Field | list[str] | tuple[str, ...]) -> Q_co:
        """Only these columns, in this order; "*" is every column but embeddings, "meta.stars" a part of JSON,
        "emb.state" the state of an embedding, "emb.error" what it failed with."""
        return self._with(select=tuple(named(c) for c in flat(columns)) or None)

    def order_by(self, *terms: str | Field | OrderTerm | list[Any] | tuple[Any, ...]) -> Q_co:
        """Sorted by these: "stars" upwards, "-stars" downwards, "-score" best hit first. Nulls are last
        both ways, the key decides what is left open."""
        parsed = tuple(OrderTerm.parse(t.name if isinstance(t, Field) else t) for t in flat(terms))
        return self._with(order_by=parsed)

    def limit(self, count: int) -> Q_co:
        """At most `count` rows: 0 to 10,000; 100 unless said."""
        if type(count) is not int or not 0 <= count <= MAX_LIMIT:
            count = checked(Query, limit=count).limit
        return self._with(limit=count)

    def offset(self, count: int) -> Q_co:
        """Leaves out the first `count` rows."""
        return self._with(offset=checked(Query, offset=count).offset)

    def cursor(self, cursor: str | None) -> Q_co:
        """Goes on where the page with this `next_cursor` ended; the query must otherwise be the same."""
        return self._with(cursor=checked(Query, cursor=cursor).cursor)


def checked(model: Any, **values: Any) -> Any:
    """An instance of a core model; InvalidInput, with the field, where a value does not fit."""
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "value"
        raise InvalidInput(f"{field}: {first['msg'].lower()}", context={"field": field}) from None


def flat(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """`f("a", "b")` and `f(["a", "b"])` mean the same."""
    return tuple(values[0]) if len(values) == 1 and isinstance(values[0], (list, tuple)) else values


def named(column: Any) -> str:
    """The name of a column given as text or as a Field. Raises InvalidInput."""
    if isinstance(column, Field):
        return column.name
    if isinstance(column, str):
        return column
    raise InvalidInput(f"a column is named by a string or a field, not {type(column).__name__}")


def only_vector_column(table: Table) -> str:
    """The table's one vector column. Raises InvalidInput where there is none, or a choice."""
    names = [c.name for c in table.vector_columns]
    if len(names) == 1:
        return names[0]
    if names:
        raise InvalidInput(
            f"table {table.full_name!r} has {len(names)} vector columns: say which one",
            hint=f"on= one of {', '.join(names)}",
        )
    raise InvalidInput(
        f"table {table.full_name!r} has no vector column", hint="add one with add_embedding_column"
    )


def condition_of(where: Any) -> Any:
    """A filter as the engine takes it: nodes, dicts, lists, text; a tuple that begins with text is that text
    with its parameters."""
    if isinstance(where, tuple) and where and isinstance(where[0], str):
        return SqlFilter(sql=where[0], params=where[1:])
    if isinstance(where, (Clause, Combination, Negation, SqlFilter)) or where is None:
        return where
    if isinstance(where, (Mapping, list, tuple, str)):
        return where
    if isinstance(where, bool):
        raise InvalidFilter(
            f"the filter is {where}, not a condition",
            hint='a method won over a column of that name? t["count"] is the column',
        )
    if isinstance(where, Field):
        raise InvalidFilter(
            f"column {where.name!r} alone is no condition", hint=f"compare it: t.{where.name} == True"
        )
    raise InvalidFilter(
        f"a {type(where).__name__} is not a filter",
        hint='write t.stars >= 5, {"column": …, "operator": …, "value": …} or ("stars >= ?", 5)',
    )


def conditions(condition: Any, more: tuple[Any, ...], equals: Mapping[str, Any]) -> list[Any]:
    """Every condition of a `where`, parsed. Raises InvalidFilter."""
    if isinstance(condition, str):
        given = [SqlFilter(sql=condition, params=more)]
    else:
        given = [condition_of(c) for c in (condition, *more)]
    found = [parse_filter(c) for c in given if c is not None]
    return found + [Field(name) == value for name, value in equals.items()]


def item(to: Any) -> Any:
    """What to compare with, as a query carries it: a PIL image becomes its PNG bytes. Raises InvalidInput."""
    if type(to).__module__.partition(".")[0] == "PIL" and hasattr(to, "save"):
        import io

        encoded = io.BytesIO()
        try:
            (to.convert("RGB") if to.mode in _NOT_IN_PNG else to).save(encoded, format="PNG")
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"the PIL image cannot be taken: {error}", hint='image.convert("RGB") makes one that can'
            ) from None
        return encoded.getvalue()
    return to


def embeddable(given: Any) -> str | bytes:
    """A text or an image, checked, as a model takes it. Raises InvalidInput."""
    found = item(given)
    if isinstance(found, str):
        if not found.strip():
            raise InvalidInput("there is nothing to embed in an empty text")
        return check_text(found)
    if isinstance(found, (bytes, bytearray)):
        return check_image(found)
    if isinstance(found, Mapping) and set(found) == {"image"}:
        return check_image(found["image"])
    raise InvalidInput(
        f"a {type(given).__name__} is neither a text nor an image",
        hint='give a string, the bytes of an image, {"image": …}, or a list of those',
    )
