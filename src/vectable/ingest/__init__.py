"""Rows from files and streams: NDJSON, CSV, Parquet and Arrow, read in batches of plain dicts.

Used alike by the server, the command line and Python. Nothing is read ahead further than one batch (Parquet:
one row group), so a stream may be of any length.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, BinaryIO, Literal

from vectable.core.schema import Table
from vectable.errors import Unsupported

Format = Literal["ndjson", "csv", "parquet", "arrow"]
DEFAULT_BATCH = 2_000
"""Rows."""
MEDIA_TYPES: dict[str, Format] = {
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "text/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.stream": "arrow",
}
_ENDINGS: dict[str, Format] = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
}


def format_of(path: str | PurePath) -> Format:
    """The format a file's name tells. Raises Unsupported for an ending that is not known."""
    ending = PurePath(path).suffix.lower()
    if ending not in _ENDINGS:
        raise Unsupported(
            f"the ending {ending or '(none)'!r} does not tell a format",
            hint=f"known endings: {', '.join(_ENDINGS)}",
        )
    return _ENDINGS[ending]


def read_batches(
    source: BinaryIO, format: Format, table: Table, batch_size: int = DEFAULT_BATCH
) -> Iterator[list[dict[str, Any]]]:
    """Rows of `source`, in order, at most `batch_size` at a time. Values are what `insert` takes: JSON values
    from NDJSON, values by the table's column types from CSV (an empty cell is null), Python values from
    Parquet and Arrow (vectors as float32 arrays, text for a json column read as JSON). Parquet needs a
    source that can seek.

    Raises InvalidRow for text that cannot be read: its words name the line, `context["line"]` too, and
    `context["row"]` counts from the rows handed out before, as `insert_stream` expects it. Raises
    InvalidInput for a file that is not of the format, UnknownColumn for a column of a CSV that the table
    does not have."""
    from vectable.ingest import columnar, text

    if format == "ndjson":
        return text.read_ndjson(source, batch_size)
    if format == "csv":
        return text.read_csv(source, table, batch_size)
    if format == "parquet":
        return columnar.read_parquet(source, table, batch_size)
    return columnar.read_arrow(source, table, batch_size)


def from_arrow(
    data: Any, table: Table | None = None, batch_size: int = DEFAULT_BATCH
) -> Iterator[list[dict[str, Any]]]:
    """Rows of anything that speaks the Arrow PyCapsule interface (`__arrow_c_stream__`, `__arrow_c_array__`):
    pandas and polars frames, Arrow tables and readers, DuckDB relations. With `table`, its vector columns
    come as float32 arrays, which is much faster, and text for its json columns is read as JSON. Raises
    Unsupported for anything else, InvalidInput where no table comes of it, InvalidRow for text that is not
    JSON (`context["row"]` as in `read_batches`)."""
    from vectable.ingest import columnar

    return columnar.from_capsule(data, table, batch_size)


def speaks_arrow(data: object) -> bool:
    """Whether `from_arrow` takes `data`."""
    return hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")
