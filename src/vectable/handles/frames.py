"""Results as Arrow, pandas and polars tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vectable.core.predicate import error_column, resolve
from vectable.core.schema import LIST_TYPES, ColumnType, Table
from vectable.errors import Unsupported

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from vectable.handles.result import Result

_JSON_KINDS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((bool,), "bool"),
    ((int,), "int64"),
    ((int, float), "float64"),
    ((str,), "string"),
)


def to_arrow(result: Result) -> pyarrow.Table:
    """See `Result.to_arrow`."""
    import pyarrow as pa

    arrays: dict[str, Any] = {}
    for name in result.columns:
        values = [row[name] for row in result.rows]
        arrays[name] = _array(name, values, result.table)
    for name, numbers in result.measures().items():
        arrays[name] = pa.array(numbers, pa.float64())
    return pa.table(arrays)


def to_pandas(result: Result) -> pandas.DataFrame:
    """See `Result.to_pandas`."""
    try:
        import pandas as pd
    except ImportError:
        raise Unsupported("pandas is not installed", hint="pip install 'vectable[pandas]'") from None
    import pyarrow as pa

    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    frame: pandas.DataFrame = to_arrow(result).to_pandas(types_mapper=nullable.get)
    return frame


def to_polars(result: Result) -> polars.DataFrame:
    """See `Result.to_polars`."""
    try:
        import polars as pl
    except ImportError:
        raise Unsupported("polars is not installed", hint="pip install 'vectable[polars]'") from None
    frame = pl.from_arrow(to_arrow(result))
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a table never becomes a Series
    return frame


def _array(name: str, values: Sequence[Any], table: Table) -> Any:
    import pyarrow as pa

    if error_column(name, table) is not None:
        return pa.array(values, pa.string())
    target = resolve(name, table)
    if target.type is ColumnType.VECTOR:
        return _vectors(values, target.column.version.dimensions)
    if target.type is not ColumnType.JSON:
        return pa.array(values, _arrow_type(target.type))
    if target.path:
        kind = _json_kind(values)
        if kind is not None:
            return pa.array(values, kind)
    texts = [None if v is None else json.dumps(v, ensure_ascii=False, separators=(",", ":")) for v in values]
    return pa.array(texts, pa.string())


def _arrow_type(type_: ColumnType) -> Any:
    import pyarrow as pa

    if type_ in LIST_TYPES:
        return pa.list_(_arrow_type(LIST_TYPES[type_]))
    return {
        ColumnType.STRING: pa.string(),
        ColumnType.INT: pa.int64(),
        ColumnType.FLOAT: pa.float64(),
        ColumnType.BOOL: pa.bool_(),
        ColumnType.TIMESTAMP: pa.timestamp("us", tz="UTC"),
        ColumnType.IMAGE: pa.binary(),
    }[type_]


def _json_kind(values: Sequence[Any]) -> str | None:
    """The Arrow type in which every value of a JSON path fits as it is; None: there is none."""
    kinds = {type(v) for v in values if v is not None}
    if not kinds or any(isinstance(v, int) and not -(2**63) <= v < 2**63 for v in values):
        return None
    return next((name for allowed, name in _JSON_KINDS if kinds <= set(allowed)), None)


def _vectors(values: Sequence[Any], dimensions: int) -> Any:
    import pyarrow as pa

    flat = np.zeros((len(values), dimensions), np.float32)
    for i, value in enumerate(values):
        if value is not None:
            flat[i] = value
    missing = pa.array([v is None for v in values], pa.bool_())
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), dimensions, mask=missing)
