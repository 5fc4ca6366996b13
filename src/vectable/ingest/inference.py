"""Column types told by a file: by its schema where it has one, else by its first rows."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from vectable.core.schema import check_name
from vectable.errors import InvalidInput
from vectable.ingest import Format

EXAMINED = 10_000
"""Rows of a CSV or JSONL file looked at."""
_MAX_CELL = 64 << 20
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*([zZ]|[+-]\d\d:?\d\d)")
_INT64 = 1 << 63


def columns_of(path: Path, kind: Format) -> dict[str, Any]:
    """Columns as `create_table` takes them, in the file's order. Raises InvalidInput for a file that is not
    of its format or names a column that cannot be one."""
    with path.open("rb") as file:
        if kind in ("parquet", "arrow"):
            from vectable.ingest.arrow_schema import arrow_columns

            found = arrow_columns(file, kind)
        elif kind == "csv":
            found = _csv_columns(file)
        else:
            found = _json_columns(file)
    if not found:
        raise InvalidInput(f"{path} is empty", hint="make the table first, or give a file with rows")
    for name in found:
        check_name(name, "column")
    return found


def _csv_columns(file: io.BufferedReader) -> dict[str, Any]:
    csv.field_size_limit(_MAX_CELL)
    lines = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="")
    reader = csv.reader(lines)
    try:
        header = next(reader, [])
        values: list[list[str]] = [[] for _ in header]
        for row in islice(reader, EXAMINED):
            for at, cell in enumerate(row[: len(header)]):
                values[at].append(cell)
    except csv.Error as error:
        raise InvalidInput(f"line {reader.line_num}: it is not CSV: {error}") from None
    finally:
        lines.detach()
    return {name: text_type(cells) for name, cells in zip(header, values, strict=True)}


def text_type(cells: Iterable[str]) -> str:
    """The narrowest type that every filled cell spells: bool, int, float, timestamp, else string. Numbers
    written with leading zeros are codes, so text."""
    filled = [cell for cell in cells if cell != ""]
    if not filled:
        return "string"
    if all(cell in ("true", "false", "True", "False", "TRUE", "FALSE") for cell in filled):
        return "bool"
    if all(_INTEGER.fullmatch(cell) and -_INT64 <= int(cell) < _INT64 for cell in filled):
        return "int"
    if all(_FLOAT.fullmatch(cell) and any(c.isdigit() for c in cell) for cell in filled):
        return "float"
    return "timestamp" if all(map(_is_moment, filled)) else "string"


def _is_moment(text: str) -> bool:
    """Whether it is a moment: a date, a time, and the time zone without which nobody knows when that was."""
    if not _MOMENT.fullmatch(text):
        return False
    try:
        return dt.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _json_columns(file: io.BufferedReader) -> dict[str, Any]:
    from vectable.ingest.text import read_ndjson

    seen: dict[str, set[str]] = {}
    for row in islice(_rows(read_ndjson(file, 500)), EXAMINED):
        for name, value in row.items():
            seen.setdefault(name, set()).add(json_type(value))
    return {name: merged(kinds) for name, kinds in seen.items()}


def _rows(batches: Iterator[list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield from batch


def json_type(value: Any) -> str:
    """The type of one JSON value; "null" and "[]" tell nothing yet."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -_INT64 <= value < _INT64 else "json"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "timestamp" if _is_moment(value) else "string"
    if isinstance(value, list):
        kinds = {"string" if (k := json_type(v)) == "timestamp" else k for v in value}
        element = merged(kinds) if kinds else ""
        return f"{element}[]" if element in ("", "string", "int", "float") and "null" not in kinds else "json"
    return "json"


def merged(kinds: set[str]) -> str:
    """One type that holds values of all `kinds`."""
    telling = kinds - {"null"}
    lists = {k for k in telling if k.endswith("[]")}
    if lists and lists == telling:
        elements = {k[:-2] for k in lists} - {""}
        return f"{merged(elements)}[]" if elements and merged(elements) != "json" else "json"
    if not telling:
        return "string"
    if len(telling) == 1:
        return next(iter(telling))
    if telling <= {"int", "float"}:
        return "float"
    return "string" if telling <= {"string", "timestamp"} else "json"
