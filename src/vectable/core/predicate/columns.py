"""What a column name in a filter or a selection points at: a stored column, a JSON path, a cell's state."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache

from vectable.core.predicate.values import check_text
from vectable.core.schema import Column, ColumnType, Table
from vectable.errors import InvalidFilter, UnknownColumn, did_you_mean

STATE = "state"
ERROR = "error"
MAX_NAME_LENGTH = 1_024
MAX_INDEX_DIGITS = 9
_STEP = re.compile(r'\.([^.\[\]"\x00-\x1f]+)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]')
_BARE = re.compile(r'[^.\[\]"\x00-\x1f]+')

PathStep = str | int
"""A member of an object by name, or of an array by position from 0."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a name points at. Only a JSON column has a `path`, only a vector column a `state`."""

    column: Column
    path: tuple[PathStep, ...] = ()
    state: bool = False

    @property
    def name(self) -> str:
        """The one spelling of this target: "stars", "meta.tags[0]", "emb.state"."""
        return format_name(self.column.name, (STATE,) if self.state else self.path)

    @property
    def type(self) -> ColumnType:
        """Of the values the target holds: a path holds JSON, a state is a string."""
        return ColumnType.STRING if self.state else self.column.type


def format_name(column: str, path: tuple[PathStep, ...]) -> str:
    """The canonical spelling of `column` followed by `path`."""
    steps = [column]
    for step in path:
        if isinstance(step, int):
            steps.append(f"[{step}]")
        elif _BARE.fullmatch(step):
            steps.append(f".{step}")
        else:
            steps.append(f"[{json.dumps(step, ensure_ascii=False)}]")
    return "".join(steps)


@lru_cache(maxsize=4_096)
def split_name(name: str) -> tuple[str, tuple[PathStep, ...]]:
    """The column and the path of "meta.tags[0]" or 'meta["a.b"]'. Raises InvalidFilter for anything else."""
    head = _BARE.match(name)
    if head is None or len(name) > MAX_NAME_LENGTH:
        raise InvalidFilter(
            f"{name[:60]!r} is not a column name", hint='write column, column.key or column["odd key"][0]'
        )
    check_text(name, "a column name")
    steps: list[PathStep] = []
    at = head.end()
    while at < len(name):
        step = _STEP.match(name, at)
        if step is None or len(step[2] or "") > MAX_INDEX_DIGITS:
            raise InvalidFilter(
                f"{name[:60]!r} breaks off as a path at {name[at : at + 20]!r}",
                hint='write column.key, column[0] or column["odd key"]',
            )
        steps.append(_step(step))
        at = step.end()
    return head[0], tuple(steps)


def _step(found: re.Match[str]) -> PathStep:
    if found[1] is not None:
        return found[1]
    if found[2] is not None:
        return int(found[2])
    try:
        return check_text(str(json.loads(found[3])), "a column name")
    except ValueError:
        raise InvalidFilter(f"{found[3][:60]} is not a quoted key") from None


def resolve(column_name: str, table: Table) -> Target:
    """What `column_name` points at in `table`. Raises UnknownColumn (did you mean …) for a name that does not
    exist, InvalidFilter for a path where there is none."""
    head, path = split_name(column_name)
    column = _column(head, table)
    if not path:
        return Target(column)
    if column.type is ColumnType.JSON:
        return Target(column, path)
    if column.type is ColumnType.VECTOR:
        if path == (STATE,):
            return Target(column, state=True)
        if path == (ERROR,):
            raise UnknownColumn(
                f"{column_name!r}: what a cell failed with can only be selected",
                hint=f"for the rows that failed: {head}.{STATE} = 'error'",
            )
        raise UnknownColumn(
            f"{column_name!r}: vector column {head!r} has no such part",
            hint=f"parts: {head}.{STATE}, and in a selection {head}.{ERROR}",
        )
    paths = ", ".join(c.name for c in table.columns if c.type is ColumnType.JSON) or "none in this table"
    raise InvalidFilter(
        f"{column_name!r}: column {head!r} holds {column.type.value} values, which have no parts",
        hint=f"paths work on json columns ({paths})",
    )


def error_column(name: str, table: Table) -> Column | None:
    """The vector column of which `name` ("emb.error") is what its cells failed with; None for other names.
    Errors are told, not compared: they are selected, and have no place in filters."""
    if not name.endswith(f".{ERROR}"):
        return None
    head, path = split_name(name)
    column = next((c for c in table.vector_columns if c.name == head), None)
    return column if path == (ERROR,) else None


def _column(name: str, table: Table) -> Column:
    for column in table.columns:
        if column.name == name:
            return column
    raise UnknownColumn(
        f"table {table.full_name!r} has no column {name!r}",
        hint=did_you_mean(name, (c.name for c in table.columns), "columns"),
    )
