"""Rows from text: NDJSON and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from vectable.core.schema import Column, ColumnType, Table
from vectable.errors import InvalidInput, InvalidRow, UnknownColumn, did_you_mean
from vectable.ingest.strict_json import parse_json

MAX_LINE = 64 << 20
"""Bytes of one NDJSON line, characters of one CSV cell."""
_INTEGER = re.compile(r"([+-]?[0-9]{1,20})(\.0*)?")
"""Programs that hold numbers as floats write whole ones with a point."""
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,5})?")
_TRUTH = {"true": True, "false": False, "1": True, "0": False}


def bad_row(error: InvalidInput, row: int, line: int) -> InvalidRow:
    """`error` as an InvalidRow that says where in the text it is."""
    return InvalidRow(
        f"line {line}: {error.detail}",
        hint=error.hint,
        context={**error.context, "row": row, "line": line},
    )


def _batched(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    handed_out = 0
    batch: list[dict[str, Any]] = []
    try:
        for row in rows:
            batch.append(row)
            if len(batch) >= size:
                handed_out += len(batch)
                yield batch
                batch = []
    except InvalidRow as error:
        error.context["row"] -= handed_out
        raise
    if batch:
        yield batch


def read_ndjson(source: BinaryIO, batch_size: int) -> Iterator[list[dict[str, Any]]]:
    """One JSON object a line; blank lines are skipped."""
    return _batched(_ndjson_rows(source), batch_size)


def _ndjson_rows(source: BinaryIO) -> Iterator[dict[str, Any]]:
    row = line = 0
    while data := source.readline(MAX_LINE + 1):
        line += 1
        try:
            if len(data) > MAX_LINE:
                raise InvalidInput(f"it is longer than {MAX_LINE} bytes", hint="one row goes on one line")
            if not data.strip():
                continue
            value = parse_json(data, "it")
            if not isinstance(value, dict):
                raise InvalidInput(f"it holds a {type(value).__name__}, not an object", hint='e.g. {"id": 1}')
        except InvalidInput as error:
            raise bad_row(error, row, line) from None
        yield value
        row += 1


def read_csv(source: BinaryIO, table: Table, batch_size: int) -> Iterator[list[dict[str, Any]]]:
    """RFC 4180 in UTF-8, with a header naming columns. An empty cell is null; lists, JSON and vectors are
    written as JSON (a vector, or an image, also as base64)."""
    # The limit belongs to the module, not to a reader. A cell may hold a long text.
    csv.field_size_limit(MAX_LINE)
    # Undecodable bytes become lone surrogates, so that the row they are in can be named.
    lines = io.TextIOWrapper(source, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _batched(_csv_rows(lines, table), batch_size)
    finally:
        # The source is the caller's to close; a wrapper left to itself would close it.
        if not source.closed:
            lines.detach()


def _csv_rows(lines: io.TextIOWrapper, table: Table) -> Iterator[dict[str, Any]]:
    reader = csv.reader(lines, strict=True)
    header: list[tuple[str, Callable[[str], Any]]] | None = None
    row = 0
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader, None)
            if cells is None:
                break
            if not cells:
                continue
            _check_utf8(cells)
            if header is None:
                header = _header(cells, table)
                continue
            values = _csv_row(cells, header)
        except csv.Error as error:
            raise bad_row(InvalidInput(f"it is not CSV: {error}"), row, start) from None
        except UnknownColumn:
            raise
        except InvalidInput as error:
            raise bad_row(error, row, start) from None
        yield values
        row += 1
    if header is None:
        raise InvalidInput("the CSV is empty", hint="the first line names the columns")


def _check_utf8(cells: list[str]) -> None:
    text = "".join(cells)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidInput("it is not UTF-8") from None


def _header(cells: list[str], table: Table) -> list[tuple[str, Callable[[str], Any]]]:
    columns = {c.name: c for c in table.columns}
    seen: set[str] = set()
    for name in cells:
        if name not in columns:
            raise UnknownColumn(
                f"table {table.full_name!r} has no column {name[:80]!r}",
                hint=did_you_mean(name, columns, "columns"),
            )
        if name in seen:
            raise InvalidInput(f"the header names column {name!r} twice")
        seen.add(name)
    return [(name, _cell_reader(columns[name])) for name in cells]


def _csv_row(cells: list[str], header: list[tuple[str, Callable[[str], Any]]]) -> dict[str, Any]:
    if len(cells) != len(header):
        raise InvalidInput(f"it has {len(cells)} cells, the header has {len(header)}")
    values: dict[str, Any] = {}
    for (name, read), cell in zip(header, cells, strict=True):
        try:
            values[name] = read(cell) if cell else None
        except InvalidInput as error:
            raise InvalidInput(
                f"column {name!r}: {error.detail}", hint=error.hint, context={"column": name}
            ) from None
    return values


def _cell_reader(column: Column) -> Callable[[str], Any]:
    return _READERS[column.type]


def _read_int(cell: str) -> int:
    found = _INTEGER.fullmatch(cell.strip())
    if found is None:
        raise InvalidInput(f"{cell[:40]!r} is not an integer")
    return int(found[1])


def _read_float(cell: str) -> float:
    if not _FLOAT.fullmatch(cell.strip()):
        raise InvalidInput(f"{cell[:40]!r} is not a number", hint="numbers are finite, with a decimal point")
    return float(cell)


def _read_bool(cell: str) -> bool:
    truth = _TRUTH.get(cell.strip().lower())
    if truth is None:
        raise InvalidInput(f"{cell[:40]!r} is neither true nor false")
    return truth


def _read_json(cell: str) -> Any:
    return parse_json(cell.encode("utf-8"), "the cell")


def _read_vector(cell: str) -> Any:
    return _read_json(cell) if cell.lstrip()[:1] in ("[", "{") else {"base64": cell.strip()}


def _read_image(cell: str) -> Any:
    return cell if cell.startswith("data:") else {"base64": cell.strip()}


_READERS: dict[ColumnType, Callable[[str], Any]] = {
    ColumnType.STRING: str,
    ColumnType.INT: _read_int,
    ColumnType.FLOAT: _read_float,
    ColumnType.BOOL: _read_bool,
    ColumnType.TIMESTAMP: str,
    ColumnType.JSON: _read_json,
    ColumnType.STRINGS: _read_json,
    ColumnType.INTS: _read_json,
    ColumnType.FLOATS: _read_json,
    ColumnType.IMAGE: _read_image,
    ColumnType.VECTOR: _read_vector,
}
