"""Rows from columns: Arrow streams, Parquet files, and objects that speak the Arrow PyCapsule interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import IOBase
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from vectable.core.schema import Table
from vectable.errors import InvalidInput, Unsupported

_FEATHER = b"ARROW1"
"""How an Arrow file (as opposed to a stream) begins."""


def read_parquet(source: BinaryIO, table: Table, batch_size: int) -> Iterator[list[dict[str, Any]]]:
    """Rows of a Parquet file, row group by row group."""
    try:
        file = pa.parquet.ParquetFile(source)
        yield from _rows(file.iter_batches(batch_size=batch_size), table, batch_size)
    except (pa.ArrowException, ValueError, MemoryError, OSError) as error:
        raise _unreadable("a Parquet file", error) from None


def read_arrow(source: BinaryIO, table: Table, batch_size: int) -> Iterator[list[dict[str, Any]]]:
    """Rows of an Arrow IPC stream, or, where the source can seek, of an Arrow file."""
    try:
        if source.seekable():
            start = source.read(len(_FEATHER))
            source.seek(0)
            if start == _FEATHER:
                file = pa.ipc.open_file(cast(IOBase, source))
                batches = (file.get_batch(i) for i in range(file.num_record_batches))
                yield from _rows(batches, table, batch_size)
                return
        yield from _rows(pa.ipc.open_stream(cast(IOBase, source)), table, batch_size)
    except (pa.ArrowException, ValueError, MemoryError, OSError) as error:
        raise _unreadable("an Arrow stream", error) from None


def from_capsule(data: Any, table: Table | None, batch_size: int) -> Iterator[list[dict[str, Any]]]:
    """Rows of an object with `__arrow_c_stream__` or `__arrow_c_array__`."""
    if hasattr(data, "__arrow_c_stream__"):
        batches: Iterable[Any] = pa.RecordBatchReader.from_stream(data)
    elif hasattr(data, "__arrow_c_array__"):
        batches = [pa.record_batch(data)]
    else:
        raise Unsupported(
            f"a {type(data).__name__} does not speak the Arrow PyCapsule interface",
            hint="give dicts, or a pandas, polars, Arrow or DuckDB table",
        )
    return _rows(batches, table, batch_size)


def _unreadable(what: str, error: BaseException) -> InvalidInput:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return InvalidInput(f"this cannot be read as {what}: {reason}")


def _rows(batches: Iterable[Any], table: Table | None, size: int) -> Iterator[list[dict[str, Any]]]:
    vectors = {} if table is None else {c.name: c.version.dimensions for c in table.vector_columns}
    for batch in batches:
        # A stream from outside may lie about its offsets; reading such an array would leave its memory.
        batch.validate(full=True)
        names = batch.schema.names
        if len(set(names)) != len(names):
            raise InvalidInput("two columns have the same name")
        for start in range(0, batch.num_rows, size):
            part = batch.slice(start, size)
            columns = [_values(part.column(i), vectors.get(name) is not None) for i, name in enumerate(names)]
            if columns:
                yield [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _values(array: Any, vector: bool) -> Iterable[Any]:
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        array, kind = array.storage, array.storage.type
    if vector and (found := _vectors(array)) is not None:
        return found
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        # Timestamps are kept to the microsecond; Python's datetime holds no more either.
        array = array.cast(pa.timestamp("us", kind.tz), safe=False)
    elif pa.types.is_decimal(kind):
        array = array.cast(
            pa.int64() if kind.scale == 0 and kind.precision <= 18 else pa.float64(), safe=False
        )
    elif pa.types.is_float16(kind):
        array = array.cast(pa.float32())
    try:
        values: list[Any] = array.to_pylist()
    except (ValueError, KeyError, ArithmeticError) as error:
        raise InvalidInput(f"a value of type {kind} cannot be read: {error}") from None
    return values


def _vectors(array: Any) -> list[Any] | None:
    """A list column of floats as float32 arrays, without an object per number; None where it cannot be."""
    kind = array.type
    fixed = pa.types.is_fixed_size_list(kind)
    if not fixed and not pa.types.is_list(kind) and not pa.types.is_large_list(kind):
        return None
    if not pa.types.is_floating(kind.value_type):
        return None
    flat = array.flatten()
    if flat.null_count:
        return None
    numbers = flat.to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        numbers = numbers.astype(np.float32, copy=False)
    lengths = [kind.list_size] * len(array) if fixed else array.value_lengths().fill_null(0).to_pylist()
    present = array.is_valid().to_pylist()
    result: list[Any] = []
    at = 0
    for length, valid in zip(lengths, present, strict=True):
        # `flatten` leaves out what null entries cover.
        result.append(numbers[at : at + length] if valid else None)
        at += length if valid else 0
    return result
