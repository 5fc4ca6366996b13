"""A query fitted to a table's present definition, before anything is read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from vectable.core.context import Context
from vectable.core.predicate import FALSE, TRUE, Predicate, and_, bind, columns_of, resolve
from vectable.core.query import MAX_LIMIT, SCORE, OrderTerm, Query
from vectable.core.schema import ORDERED_TYPES, Column, Table, Version
from vectable.core.vectors import Vector
from vectable.engine.resident.columns import FilterColumn, filter_columns
from vectable.engine.search.cursor import Place, decode_cursor, fingerprint
from vectable.engine.search.selection import Selection, compile_selection
from vectable.errors import CursorExpired, InvalidInput

_REMEMBERED = 512


@dataclass(frozen=True, slots=True)
class Target:
    """What a similarity query compares with."""

    column: Column
    version: Version
    vector: Vector
    threshold: float | None
    exact: bool
    stale: bool


@dataclass(frozen=True, slots=True)
class Compiled:
    """What depends only on the definition, the filter, the selection and the order."""

    where: Predicate
    filter: Sequence[FilterColumn] | None
    """The columns the filter reads; None: it reads cells, so only the backend can evaluate it."""
    names: dict[str, str]
    """Filter column id by the name the filter uses."""
    where_columns: tuple[str, ...]
    selection: Selection
    order: tuple[OrderTerm, ...]
    everything: bool
    """No filter: every row matches."""
    described: str | None
    """The filter for people; None where there is none."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One request, checked."""

    table: Table
    compiled: Compiled
    target: Target | None
    limit: int
    offset: int
    cursor: str | None
    context: Context

    @property
    def where(self) -> Predicate:
        return self.compiled.where

    @property
    def by_score(self) -> bool:
        """Whether the order is the default one of a similarity query: best first."""
        order = self.compiled.order
        return not order or (len(order) == 1 and order[0].column == SCORE and order[0].descending)

    def fingerprint(self) -> str:
        """Of all that a cursor must find unchanged: everything but selection and page size."""
        order = ",".join(map(str, self.compiled.order))
        parts: list[bytes | str] = [self.table.id, self.where.model_dump_json(), order]
        if self.target is not None:
            parts += [self.target.column.id, self.target.vector.tobytes(), repr(self.target.threshold)]
        return fingerprint(*parts)

    def place(self) -> Place | None:
        """Where the page before this one ended. Raises InvalidCursor."""
        if self.cursor is None:
            return None
        terms = 1 if self.target is not None and self.by_score else len(self.compiled.order)
        place = decode_cursor(self.cursor, self.fingerprint(), terms)
        if self.target is not None and place.version != self.target.version.id:
            raise CursorExpired(
                "the column has a newer version than the cursor", hint="start the query again"
            )
        return place


class Preparer:
    """Fits queries to tables and remembers what it compiled. Thread-safe."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, tuple[Table, Compiled]] = OrderedDict()
        self._lock = threading.Lock()

    def prepare(
        self, table: Table, query: Query, context: Context, vector: Vector | None, unlimited: bool = False
    ) -> Prepared:
        """Raises InvalidInput and its kin for whatever does not fit."""
        context.check_deadline()
        target = None if query.similar is None else _target(table, query, vector)
        if query.cursor is not None and query.offset:
            raise InvalidInput("a cursor excludes an offset", hint="the cursor says where the page begins")
        if target is not None and not unlimited and query.offset + query.limit > MAX_LIMIT:
            raise InvalidInput(
                f"offset + limit is {query.offset + query.limit}",
                hint=f"at most {MAX_LIMIT} hits of a similarity search can be paged through by offset",
            )
        compiled = self._compiled(table, query, context, target is not None)
        return Prepared(table, compiled, target, query.limit, query.offset, query.cursor, context)

    def _compiled(self, table: Table, query: Query, context: Context, similar: bool) -> Compiled:
        try:
            where = tuple(query.where) if isinstance(query.where, list) else query.where
            shape = (query.select, query.order_by, similar)
            key: Hashable = (table.id, table.generation, where, context.scope, *shape)
            with self._lock:
                of, known = self._known.get(key, (None, None))
                # The generation alone is not enough: after a restore it comes again.
                if known is not None and (of is table or of == table):
                    # The newest object is kept: comparing equal definitions costs more than all else here.
                    self._known[key] = table, known
                    self._known.move_to_end(key)
                    return known
        except TypeError:  # a literal that cannot be hashed (a JSON list or object)
            return compile_query(table, query, context.scope, similar)
        compiled = compile_query(table, query, context.scope, similar)
        with self._lock:
            self._known[key] = table, compiled
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return compiled


def compile_query(table: Table, query: Query, scope: Predicate, similar: bool) -> Compiled:
    """Binds the filter and the scope, compiles the selection, checks the order."""
    asked = TRUE if query.where is None else query.predicate
    where = bind(asked if scope == TRUE else and_((asked, scope)), table)
    needed = filter_columns(where, table)
    return Compiled(
        where,
        None if needed is None else tuple(needed.values()),
        {} if needed is None else {name: column.id for name, column in needed.items()},
        tuple(sorted(columns_of(where))),
        compile_selection(query.select, table),
        tuple(_order_term(term, table, similar) for term in query.order_by),
        where == TRUE,
        described(where),
    )


def _order_term(term: OrderTerm, table: Table, similar: bool) -> OrderTerm:
    if term.column == SCORE and (similar or all(c.name != SCORE for c in table.columns)):
        if not similar:
            raise InvalidInput("the rows of this query have no score", hint="add `similar` to order by score")
        return term
    found = resolve(term.column, table)
    if found.path or found.state or found.type not in ORDERED_TYPES:
        kinds = ", ".join(c.name for c in table.stored_columns if c.type in ORDERED_TYPES)
        raise InvalidInput(
            f"rows cannot be ordered by {term.column!r}", hint=f"columns with an order: {kinds}"
        )
    return OrderTerm(column=found.name, descending=term.descending)


def _target(table: Table, query: Query, vector: Vector | None) -> Target:
    similar = query.similar
    if similar is None or vector is None:
        raise InvalidInput("a similarity query needs a vector to compare with")
    column = table.vector_column(similar.column)
    version = column.version
    if vector.shape != (version.dimensions,):
        raise InvalidInput(f"the query vector has shape {vector.shape}, not ({version.dimensions},)")
    return Target(column, version, vector, similar.threshold, similar.exact, column.serves_stale)


def is_empty(where: Predicate) -> bool:
    """Whether no row can match."""
    return where == FALSE


def unlimited(query: Query) -> bool:
    """Whether a stream of this query ends only with the rows: nobody set a limit."""
    return "limit" not in query.model_fields_set


def described(value: Any) -> str | None:
    """A filter for people; None where there is none."""
    return None if value is None or value == TRUE else str(value)
