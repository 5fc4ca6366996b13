"""What the schema of a Parquet or Arrow file says: column types, and how many rows there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from vectable.errors import InvalidInput

_FEATHER = b"ARROW1"


def arrow_columns(file: BinaryIO, kind: str) -> dict[str, Any]:
    """Columns as `create_table` takes them; what no other type holds becomes json."""
    with _readable(kind):
        schema = pa.parquet.read_schema(file) if kind == "parquet" else _ipc_schema(file)
    return {field.name: _column(field) for field in schema}


def parquet_rows(path: Path) -> int:
    """How many rows a Parquet file has, from its footer."""
    with _readable("parquet"):
        return int(pa.parquet.read_metadata(path).num_rows)


@contextmanager
def _readable(kind: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, ValueError, OSError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InvalidInput(f"this cannot be read as {kind}: {reason}") from None


def _ipc_schema(file: BinaryIO) -> Any:
    start = file.read(len(_FEATHER))
    file.seek(0)
    source = cast(Any, file)
    return pa.ipc.open_file(source).schema if start == _FEATHER else pa.ipc.open_stream(source).schema


def _column(field: Any) -> Any:
    if getattr(field.type, "extension_name", "") == "arrow.json":
        return "json"
    kind = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
    if pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type):
        return {"type": "vector", "dimensions": kind.list_size}
    return _type(kind)


def _type(kind: Any) -> str:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_null(kind)
    ):
        return "string"
    if types.is_boolean(kind):
        return "bool"
    if types.is_integer(kind):
        return "int"
    if types.is_decimal(kind):
        return "int" if kind.scale == 0 and kind.precision <= 18 else "float"
    if types.is_floating(kind):
        return "float"
    if types.is_timestamp(kind) and kind.tz is not None:
        return "timestamp"
    if types.is_binary(kind) or types.is_large_binary(kind):
        return "image"
    return _list_type(kind)


def _list_type(kind: Any) -> str:
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        element = _type(kind.value_type)
        if element in ("string", "int", "float"):
            return f"{element}[]"
    if types.is_temporal(kind):
        raise InvalidInput(
            f"columns of Arrow type {kind} have no type here",
            hint="cast them to text, or timestamps to timestamp[us, UTC]",
        )
    return "json"
