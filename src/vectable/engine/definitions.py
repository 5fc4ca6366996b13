"""From what users write about columns to definitions, and what may change about them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from vectable.core.recipe import renamed_template, template_columns
from vectable.core.schema import (
    KEY_TYPES,
    MAX_COLUMNS,
    MAX_DIMENSIONS,
    Column,
    ColumnType,
    Foreign,
    Metric,
    Table,
    Version,
    check_name,
)
from vectable.core.values import written_default
from vectable.errors import AlreadyExists, Conflict, InvalidInput, Unsupported, did_you_mean

_OPTIONS = frozenset({"type", "nullable", "default", "dimensions", "metric", "dtype", "index"})
RESERVED = frozenset({"score", "similarity_score", "distance"})


def parse_columns(
    columns: Mapping[str, Any], key: Sequence[str] | None, *, complete: bool = True
) -> tuple[Column, ...]:
    """Columns from {"title": "string", "stars": {"type": "int", "nullable": false, "default": 0}}.
    `complete`: the whole table, so an `id` column is added when no key names others. Raises InvalidInput."""
    if not isinstance(columns, Mapping):
        raise InvalidInput("columns are given as a mapping of name to type", hint='e.g. {"title": "string"}')
    parsed = [parse_column(name, spec) for name, spec in columns.items()]
    if complete and key is None and "id" not in columns:
        parsed.insert(0, Column(name="id", type=ColumnType.STRING, nullable=False))
    keys = set(key or ["id"]) if complete else set()
    parsed = [c.model_copy(update={"nullable": False}) if c.name in keys else c for c in parsed]
    if len(parsed) > MAX_COLUMNS:
        raise InvalidInput(f"{len(parsed)} columns are too many", hint=f"at most {MAX_COLUMNS} are allowed")
    return tuple(parsed)


def parse_column(name: str, spec: Any) -> Column:
    """One column from its name and type, or its name and options. Raises InvalidInput."""
    check_name(name, "column")
    if name in RESERVED:
        raise InvalidInput(f"{name!r} is what a hit's own field is called", hint="choose another column name")
    options = {"type": spec} if isinstance(spec, str) else spec
    if not isinstance(options, Mapping) or not isinstance(options.get("type"), str):
        raise InvalidInput(f"column {name!r}: give a type, or an object with a type", hint=_types())
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        hint = did_you_mean(unknown[0], _OPTIONS, "options")
        raise InvalidInput(f"column {name!r} has an unknown option {unknown[0]!r}", hint=hint)
    try:
        type_ = ColumnType(options["type"])
    except ValueError:
        raise InvalidInput(
            f"column {name!r} has an unknown type {options['type']!r}", hint=_types()
        ) from None
    nullable = options.get("nullable", True)
    if not isinstance(nullable, bool):
        raise InvalidInput(f"column {name!r}: nullable is true or false")
    if type_ is ColumnType.VECTOR:
        return _vector_column(name, options, nullable)
    for option in ("dimensions", "metric", "dtype", "index"):
        if option in options:
            raise InvalidInput(f"column {name!r}: only vector columns have the option {option!r}")
    column = Column(name=name, type=type_, nullable=nullable, default=options.get("default"))
    try:
        return column.model_copy(update={"default": written_default(column)})
    except InvalidInput as error:
        raise InvalidInput(f"column {name!r}: its default: {error.detail}", hint=error.hint) from None


def _types() -> str:
    return "types: " + ", ".join(t.value for t in ColumnType)


def _vector_column(name: str, options: Mapping[str, Any], nullable: bool) -> Column:
    dimensions = options.get("dimensions")
    if (
        isinstance(dimensions, bool)
        or not isinstance(dimensions, int)
        or not 1 <= dimensions <= MAX_DIMENSIONS
    ):
        raise InvalidInput(
            f"column {name!r}: a vector column needs dimensions from 1 to {MAX_DIMENSIONS}",
            hint='e.g. {"type": "vector", "dimensions": 384}',
        )
    if options.get("dtype", "float32") != "float32":
        raise InvalidInput(f"column {name!r}: vectors are float32")
    if options.get("default") is not None:
        raise InvalidInput(f"column {name!r}: a vector column has no default")
    metric = options.get("metric", "cosine")
    if not isinstance(metric, str):
        raise InvalidInput(f"column {name!r}: metric is a name")
    version = Version(dimensions=dimensions, metric=Metric.parse(metric))
    return Column(
        name=name,
        type=ColumnType.VECTOR,
        nullable=nullable,
        versions=(version,),
        active=version.id,
        index=parse_index_option(options.get("index", "auto")),
    )


def parse_index_option(value: Any) -> Any:
    """ "auto" or "none". Raises InvalidInput."""
    if value not in ("auto", "none"):
        raise InvalidInput(f"index is 'auto' or 'none', not {value!r}")
    return value


def check_if_exists(value: str) -> str:
    """ "error" or "ok". Raises InvalidInput."""
    if value not in ("error", "ok"):
        raise InvalidInput(f"if_exists is error or ok, not {value!r}")
    return value


def parse_key(columns: Sequence[Column], key: Sequence[str] | None) -> tuple[str, ...]:
    """Ids of the key's columns, in order. Raises InvalidInput."""
    names = ["id"] if key is None else list(key) if not isinstance(key, str) else [key]
    by_name = {c.name: c for c in columns}
    if not names or len(set(names)) != len(names):
        raise InvalidInput("the key names one or more different columns")
    for name in names:
        if name not in by_name:
            raise InvalidInput(
                f"the key names a column {name!r} that is not there",
                hint=did_you_mean(name, by_name, "columns"),
            )
        if by_name[name].type not in KEY_TYPES:
            types = ", ".join(sorted(t.value for t in KEY_TYPES))
            raise InvalidInput(
                f"column {name!r} of type {by_name[name].type.value} cannot be part of a key",
                hint=f"key columns are of type {types}",
            )
    return tuple(by_name[name].id for name in names)


def check_new_column(table: Table, column: Column) -> Column:
    """`column` if the table has none of that name. Raises AlreadyExists, InvalidInput."""
    if any(c.name == column.name for c in table.columns):
        raise AlreadyExists(
            f"table {table.full_name!r} has a column {column.name!r} already",
            hint="choose another name, or drop that column first",
        )
    if len(table.columns) >= MAX_COLUMNS:
        raise InvalidInput(f"a table has at most {MAX_COLUMNS} columns")
    return column


def check_ours(table: Table, done: str, hint: str | None = None) -> Table:
    """`table`, unless its rows are others': what cannot be `done` to those raises Unsupported."""
    if table.foreign is None:
        return table
    theirs = f"{table.foreign.place}.{table.foreign.name}"
    raise Unsupported(
        f"table {table.full_name!r} shows the rows of {theirs}, which others own: it cannot be {done} here",
        hint=hint or f"change {theirs} with SQL: that is noticed within seconds",
    )


def without_values(column: Column) -> InvalidInput:
    """The error for a new column that rows there would have no value for."""
    fixed = column.type is ColumnType.VECTOR
    return InvalidInput(
        f"column {column.name!r} may not be null, but the table has rows without it",
        hint="make it nullable" if fixed else "give it a default, or make it nullable",
    )


def check_droppable(table: Table, names: Sequence[str]) -> list[Column]:
    """The columns to drop, computed ones first. Raises UnknownColumn, InvalidInput, Conflict."""
    columns = [table.column(name) for name in dict.fromkeys(names)]
    dropped = {c.name for c in columns}
    for column in columns:
        if column.id in table.key:
            raise InvalidInput(f"column {column.name!r} is part of the key and cannot be dropped")
    for column in table.columns:
        if column.embedding is None or column.name in dropped:
            continue
        used = dropped.intersection(template_columns(column.embedding.template))
        if used:
            raise Conflict(
                f"column {sorted(used)[0]!r} is what {column.name!r} is made from",
                hint=f"drop {column.name!r} first",
            )
    return sorted(columns, key=lambda c: c.embedding is None)


def renamed_columns(table: Table, old: str, new: str) -> tuple[Column, ...]:
    """The table's columns with `old` called `new`, also in templates. Raises AlreadyExists, UnknownColumn."""
    table.column(old)
    if any(c.name == new for c in table.columns):
        raise AlreadyExists(
            f"table {table.full_name!r} has a column {new!r} already", hint="choose another name"
        )
    if new in RESERVED:
        raise InvalidInput(f"{new!r} is what a hit's own field is called", hint="choose another column name")
    renamed = []
    for column in table.columns:
        update: dict[str, Any] = {"name": new} if column.name == old else {}
        if column.embedding is not None:
            embedding = column.embedding
            update["embedding"] = embedding.model_copy(
                update={
                    "template": renamed_template(embedding.template, old, new),
                    "source": new if embedding.source == old else embedding.source,
                }
            )
        renamed.append(column.model_copy(update=update))
    return tuple(renamed)


def describe(table: Table) -> dict[str, Any]:
    """The JSON-ready description of a table: what `GET /tables/{table}` answers."""
    names = {c.id: c.name for c in table.columns}
    return {
        "name": table.name,
        "namespace": table.namespace,
        "id": table.id,
        "key": [c.name for c in table.key_columns],
        "columns": {c.name: describe_column(c) for c in table.columns},
        "indexes": [
            {"name": i.name, "type": i.type, "column": names[i.column]}
            | ({"method": i.method} if i.method else {})
            for i in table.indexes
        ],
        "created_at": table.created_at,
        **({} if table.foreign is None else {"attached": _attached(table.foreign)}),
    }


def _attached(foreign: Foreign) -> dict[str, Any]:
    return {"schema": foreign.place, "table": foreign.name}


def describe_column(column: Column) -> dict[str, Any]:
    """One column of `describe`."""
    described: dict[str, Any] = {"type": column.type.value, "nullable": column.nullable}
    if column.default is not None:
        described["default"] = column.default
    if column.type is ColumnType.VECTOR:
        described["dimensions"] = column.version.dimensions
        described["metric"] = column.version.metric.value
    if column.embedding is not None:
        described["embedding"] = column.embedding.model_dump()
    return described


def now() -> str:
    """RFC 3339, UTC, to the millisecond."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
