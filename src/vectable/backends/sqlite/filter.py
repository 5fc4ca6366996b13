"""Filters for SQLite."""

from __future__ import annotations

from vectable.backends.compile.filter import split
from vectable.backends.compile.sql import SQLITE
from vectable.backends.sqlite.layout import Layout, cells_name
from vectable.core.predicate import Predicate
from vectable.interfaces import Pushed


def push(layout: Layout, where: Predicate) -> Pushed:
    """Splits a bound predicate into what SQLite evaluates and what is left."""
    return split(layout.table, where, SQLITE, layout.expression, cells_name)
