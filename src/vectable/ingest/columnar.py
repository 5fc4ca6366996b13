"""Rows from columns: Arrow streams, Parquet files, and objects that speak the Arrow PyCapsule interface."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from io import IOBase
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from vectable.core.schema import ColumnType, Table
from vectable.errors import InvalidInput, InvalidRow, Unsupported
from vectable.ingest.strict_json import parse_json

_FEATHER = b"ARROW1"
"""How an Arrow file (as opposed to a stream) begins."""
_ROW_NUMBERS = re.compile(r"__index_level_\d+__")


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
    if not hasattr(data, "__arrow_c_stream__") and not hasattr(data, "__arrow_c_array__"):
        raise Unsupported(
            f"a {type(data).__name__} does not speak the Arrow PyCapsule interface",
            hint="give dicts, or a pandas, polars, Arrow or DuckDB table",
        )
    try:
        if not hasattr(data, "__arrow_c_stream__"):
            yield from _rows([pa.record_batch(data)], table, batch_size)
            return
        # Closed at once, also when a row is refused: until then DuckDB's connection serves nobody else.
        with pa.RecordBatchReader.from_stream(data) as batches:
            yield from _rows(batches, table, batch_size)
    except (pa.ArrowException, ValueError, TypeError, MemoryError, OSError) as error:
        raise _unreadable(
            f"an Arrow table, which a {type(data).__name__} was asked for",
            error,
            "give a table whose columns each hold values of one kind, or rows as dicts",
        ) from None


def _unreadable(what: str, error: BaseException, hint: str | None = None) -> InvalidInput:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return InvalidInput(f"this cannot be read as {what}: {reason}", hint=hint)


def _rows(batches: Iterable[Any], table: Table | None, size: int) -> Iterator[list[dict[str, Any]]]:
    types = {} if table is None else {c.name: c.type for c in table.columns}
    for batch in batches:
        # A stream from outside may lie about its offsets; reading such an array would leave its memory.
        batch.validate(full=True)
        if len(set(batch.schema.names)) != len(batch.schema.names):
            raise InvalidInput("two columns have the same name")
        # The positions pandas numbers its rows by are no column of anybody's.
        columns = {n: batch.column(n) for n in batch.schema.names if not _ROW_NUMBERS.fullmatch(n)}
        for start in range(0, batch.num_rows, size):
            values = [_values(c.slice(start, size), types.get(n), n) for n, c in columns.items()]
            if values:
                yield [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _values(array: Any, type_: ColumnType | None, name: str) -> Iterable[Any]:
    kind = array.type
    json = type_ is ColumnType.JSON
    if isinstance(array, pa.ExtensionArray):
        json |= getattr(kind, "extension_name", "") == "arrow.json"
        array, kind = array.storage, array.storage.type
    if type_ is ColumnType.VECTOR and (found := _vectors(array)) is not None:
        return found
    if json and _holds_text(kind):
        return _parsed(array.to_pylist(), name)
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


def _holds_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _parsed(texts: list[str | None], name: str) -> list[Any]:
    """JSON from text, as results export it: Arrow has no other way to keep any JSON value."""
    values = []
    for row, text in enumerate(texts):
        try:
            values.append(None if text is None else parse_json(text.encode("utf-8"), "the text"))
        except InvalidInput as error:
            raise InvalidRow(
                f"row {row}, column {name!r}: {error.detail}",
                hint='a json column takes JSON text from tables: a string is written "…", with its quotes',
                context={**error.context, "row": row, "column": name},
            ) from None
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
