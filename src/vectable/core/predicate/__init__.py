"""Filters: nodes, the three spellings that become the same nodes, and their fit to a table."""

from vectable.core.predicate.bind import bind
from vectable.core.predicate.columns import PathStep, Target, error_column, format_name, resolve, split_name
from vectable.core.predicate.field import Field
from vectable.core.predicate.nodes import (
    FALSE,
    OPERATORS,
    TRUE,
    Clause,
    Combination,
    Filter,
    Negation,
    Operator,
    Predicate,
    SqlFilter,
    and_,
    columns_of,
    not_,
    or_,
)
from vectable.core.predicate.parse import MAX_DEPTH, MAX_IN_VALUES, MAX_NODES, parse_filter
from vectable.core.predicate.values import frozen_value

__all__ = [
    "FALSE",
    "MAX_DEPTH",
    "MAX_IN_VALUES",
    "MAX_NODES",
    "OPERATORS",
    "TRUE",
    "Clause",
    "Combination",
    "Field",
    "Filter",
    "Negation",
    "Operator",
    "PathStep",
    "Predicate",
    "SqlFilter",
    "Target",
    "and_",
    "bind",
    "columns_of",
    "error_column",
    "format_name",
    "frozen_value",
    "not_",
    "or_",
    "parse_filter",
    "resolve",
    "split_name",
]
