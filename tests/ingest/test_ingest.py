"""Rows from NDJSON, CSV, Parquet and Arrow."""

import datetime as dt
import io
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from vectable.core.schema import Column, ColumnType, Table, Version
from vectable.errors import InvalidInput, InvalidRow, UnknownColumn, Unsupported, VectableError
from vectable.ingest import Format, format_of, from_arrow, read_batches, speaks_arrow

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def table() -> Table:
    version = Version(dimensions=2)
    plain = {
        "id": ColumnType.STRING,
        "n": ColumnType.INT,
        "x": ColumnType.FLOAT,
        "ok": ColumnType.BOOL,
        "at": ColumnType.TIMESTAMP,
        "meta": ColumnType.JSON,
        "tags": ColumnType.STRINGS,
        "picture": ColumnType.IMAGE,
    }
    columns = [Column(id=name, name=name, type=type_) for name, type_ in plain.items()]
    vector = Column(name="emb", type=ColumnType.VECTOR, versions=(version,), active=version.id)
    return Table(name="t", key=("id",), columns=(*columns, vector))


def rows_of(data: bytes, format: Format, table: Table, batch_size: int = 2_000) -> list[dict[str, Any]]:
    return [row for batch in read_batches(io.BytesIO(data), format, table, batch_size) for row in batch]


def test_ndjson_skips_blank_lines_and_keeps_order(table: Table) -> None:
    data = b'{"id":"a","n":1}\n\n  \r\n{"id":"b","meta":{"x":[1]}}'
    assert rows_of(data, "ndjson", table) == [{"id": "a", "n": 1}, {"id": "b", "meta": {"x": [1]}}]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"[1]", "a list, not an object"),
        (b"{", "not JSON"),
        (b'{"n":NaN}', "NaN"),
        (b'{"n":1,"n":2}', "occurs twice"),
        (b"\xff", "UTF-8"),
    ],
)
def test_ndjson_names_the_bad_line(table: Table, line: bytes, why: str) -> None:
    with pytest.raises(InvalidRow, match=why) as caught:
        rows_of(b'{"id":"a"}\n\n' + line + b"\n", "ndjson", table)
    assert caught.value.detail.startswith("line 3: ")
    assert caught.value.context["row"] == 1
    assert caught.value.context["line"] == 3


def test_a_bad_row_counts_from_the_rows_handed_out(table: Table) -> None:
    data = b'{"id":"a"}\n' * 5 + b"oops\n"
    batches = read_batches(io.BytesIO(data), "ndjson", table, 2)
    assert [len(next(batches)), len(next(batches))] == [2, 2]
    with pytest.raises(InvalidRow, match="line 6") as caught:
        next(batches)
    assert caught.value.context["row"] == 1


def test_csv_reads_cells_by_column_type(table: Table) -> None:
    data = (
        "\ufeffid,n,x,ok,at,meta,tags,picture,emb\r\n"
        'a,-7,1.5e3,TRUE,2026-01-31T12:00:00Z,"{""k"": [1, null]}","[""x"",""y,z""]",aGk=,"[1, 2.5]"\r\n'
        '"b ""quoted""\nline",,,,,,,,\r\n'
        "c,1,.5,0,,,,,AACAPwAAAEA=\r\n"
    ).encode()
    assert rows_of(data, "csv", table) == [
        {
            "id": "a",
            "n": -7,
            "x": 1500.0,
            "ok": True,
            "at": "2026-01-31T12:00:00Z",
            "meta": {"k": [1, None]},
            "tags": ["x", "y,z"],
            "picture": {"base64": "aGk="},
            "emb": [1, 2.5],
        },
        {"id": 'b "quoted"\nline'} | dict.fromkeys(["n", "x", "ok", "at", "meta", "tags", "picture", "emb"]),
        {"id": "c", "n": 1, "x": 0.5, "ok": False, "emb": {"base64": "AACAPwAAAEA="}}
        | dict.fromkeys(["at", "meta", "tags", "picture"]),
    ]


@pytest.mark.parametrize(
    ("data", "why", "line"),
    [
        (b"id,n\na,1\nb\n", "1 cells, the header has 2", 3),
        (b"id,n\na,1\nb,2,3\n", "3 cells, the header has 2", 3),
        (b"id,n\na,x\n", "column 'n': 'x' is not an integer", 2),
        (b"id,n\na,1.5\n", "not an integer", 2),
        (b"id,n\na,1_0\n", "not an integer", 2),
        (b"id,x\na,nan\n", "not a number", 2),
        (b"id,x\na,1e999999\n", "not a number", 2),
        (b"id,ok\na,yes\n", "neither true nor false", 2),
        (b"id,meta\na,{\n", "column 'meta'", 2),
        (b'id\n"a\nb"\n"c', "not CSV", 4),
        (b'id\n"a"b\n', "not CSV", 2),
        (b"id\na\n\xff\n", "not UTF-8", 3),
        (b"id,id\n", "twice", 1),
    ],
)
def test_csv_names_the_bad_line(table: Table, data: bytes, why: str, line: int) -> None:
    with pytest.raises(InvalidRow, match=why) as caught:
        rows_of(data, "csv", table)
    assert caught.value.detail.startswith(f"line {line}: ")


def test_csv_header_is_checked_before_any_row(table: Table) -> None:
    with pytest.raises(UnknownColumn, match="did you mean 'meta'"):
        rows_of(b"id,metta\n", "csv", table)
    with pytest.raises(InvalidInput, match="empty"):
        rows_of(b"", "csv", table)
    assert rows_of(b"id\n", "csv", table) == []


def test_csv_cells_may_be_long(table: Table) -> None:
    text = "word " * 100_000
    assert rows_of(f"id,meta\n{text},\n".encode(), "csv", table)[0]["id"] == text


def arrow_table() -> pa.Table:
    return pa.table(
        {
            "id": pa.array(["a", "b", "c"]),
            "n": pa.array([1, None, 3], pa.int32()),
            "at": pa.array([NOON, None, NOON], pa.timestamp("ns", "Europe/Berlin")),
            "tags": pa.array([["x"], [], None]),
            "meta": pa.array([{"k": 1}, None, {"k": 2}]),
            "picture": pa.array([b"\x01", None, b""]),
            "emb": pa.array([None, [1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2)),
        }
    )


def parquet_bytes(data: pa.Table) -> bytes:
    sink = io.BytesIO()
    pa.parquet.write_table(data, sink)
    return sink.getvalue()


def stream_bytes(data: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write_table(data)
    return sink.getvalue()


def file_bytes(data: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, data.schema) as writer:
        writer.write_table(data)
    return sink.getvalue()


def check_arrow_rows(rows: list[dict[str, Any]]) -> None:
    vectors = [row.pop("emb") for row in rows]
    assert rows == [
        {"id": "a", "n": 1, "at": NOON, "tags": ["x"], "meta": {"k": 1}, "picture": b"\x01"},
        {"id": "b", "n": None, "at": None, "tags": [], "meta": None, "picture": None},
        {"id": "c", "n": 3, "at": NOON, "tags": None, "meta": {"k": 2}, "picture": b""},
    ]
    assert vectors[0] is None
    assert [v.tolist() for v in vectors[1:]] == [[1.0, 2.0], [3.0, 4.0]]
    assert all(v.dtype == np.float32 for v in vectors[1:])


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_columnar_formats_give_the_same_rows(table: Table, batch_size: int) -> None:
    data = arrow_table()
    check_arrow_rows(rows_of(parquet_bytes(data), "parquet", table, batch_size))
    check_arrow_rows(rows_of(stream_bytes(data), "arrow", table, batch_size))
    check_arrow_rows(rows_of(file_bytes(data), "arrow", table, batch_size))
    check_arrow_rows([row for batch in from_arrow(data, table, batch_size) for row in batch])


def test_capsules_of_other_libraries(table: Table) -> None:
    duckdb = pytest.importorskip("duckdb")
    frame = {"id": ["a", "b"], "n": [1, None], "emb": [[1.0, 2.0], [3.0, 4.0]]}
    sources = [
        pd.DataFrame(frame),
        pl.DataFrame(frame),
        pa.RecordBatch.from_pydict(frame),
        duckdb.connect().sql(
            "select * from (values ('a', 1, [1.0::float, 2.0]), ('b', null, [3.0, 4.0])) t(id, n, emb)"
        ),
    ]
    for source in sources:
        rows = [row for batch in from_arrow(source, table) for row in batch]
        assert [row["id"] for row in rows] == ["a", "b"]
        assert [row["n"] for row in rows] == [1, None]
        assert [list(row["emb"]) for row in rows] == [[1.0, 2.0], [3.0, 4.0]]


def test_categories_decimals_and_halves(table: Table) -> None:
    data = pa.table(
        {
            "id": pa.array(["a", "b"]).dictionary_encode(),
            "n": pa.array([Decimal(1), Decimal(2)], pa.decimal128(10, 0)),
            "x": pa.array(np.array([0.5, 1.5], np.float16)),
        }
    )
    rows = [row for batch in from_arrow(data, table) for row in batch]
    assert rows == [{"id": "a", "n": 1, "x": 0.5}, {"id": "b", "n": 2, "x": 1.5}]
    categories = pl.DataFrame({"id": pl.Series(["a", "a"], dtype=pl.Categorical)})
    assert [r["id"] for b in from_arrow(categories) for r in b] == ["a", "a"]


def test_what_does_not_speak_arrow_is_refused() -> None:
    assert not speaks_arrow([{"id": 1}])
    with pytest.raises(Unsupported, match="a list does not speak"):
        next(from_arrow([1]))


def damaged(data: bytes, n: int) -> Iterator[bytes]:
    rng = random.Random(7)
    for _ in range(n):
        bad = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        yield bytes(bad[: rng.randrange(len(bad))]) if rng.random() < 0.3 else bytes(bad)


@pytest.mark.parametrize("format", ["parquet", "arrow"])
def test_damaged_files_are_refused_and_never_crash(table: Table, format: Format) -> None:
    good = parquet_bytes(arrow_table()) if format == "parquet" else stream_bytes(arrow_table())
    sentences = []
    for bad in (b"", b"PAR1", good[:-1], *damaged(good, 300)):
        try:
            rows_of(bad, format, table)
        except VectableError as error:
            sentences.append(error.detail)
    assert len(sentences) > 200
    assert max(map(len, sentences)) < 400


def test_formats_by_ending() -> None:
    assert [format_of(f"x/y.{e}") for e in ("CSV", "jsonl", "ndjson", "parquet", "arrow")] == [
        "csv",
        "ndjson",
        "ndjson",
        "parquet",
        "arrow",
    ]
    with pytest.raises(Unsupported, match=r"known endings: \.ndjson"):
        format_of("rows.xlsx")
