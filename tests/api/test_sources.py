"""Rows in every form they come."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from vectable import Database, Table, connect_async
from vectable.errors import InvalidInput, InvalidRow, Unsupported
from vectable.handles.source import _drawn

ROWS = [{"id": f"{i:04}", "title": f"title {i}", "stars": i, "tags": ["a", str(i)]} for i in range(50)]
COLUMNS = {"title": "string", "stars": "int", "tags": "string[]"}


@pytest.fixture
def table(db: Database) -> Table:
    return db.create_table("things", COLUMNS)


def written(table: Table) -> list[dict[str, Any]]:
    return table.order_by("id").limit(10_000).collect().to_dicts()


FRAMES: dict[str, Any] = {
    "pandas": lambda: pd.DataFrame(ROWS),
    "polars": lambda: pl.DataFrame(ROWS),
    "polars lazy, collected": lambda: pl.LazyFrame(ROWS).collect(),
    "arrow table": lambda: pa.Table.from_pylist(ROWS),
    "arrow batch": lambda: pa.RecordBatch.from_pylist(ROWS),
    "arrow reader": lambda: pa.Table.from_pylist(ROWS).to_reader(max_chunksize=7),
    "generator": lambda: (row for row in ROWS),
    "tuple": lambda: tuple(ROWS),
    "map": lambda: map(dict, ROWS),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_and_iterators(table: Table, name: str) -> None:
    result = table.insert(FRAMES[name]())
    assert result.inserted == 50
    assert result.ids == [row["id"] for row in ROWS]
    assert written(table) == ROWS


def test_a_duckdb_relation(table: Table) -> None:
    arrow = pa.Table.from_pylist(ROWS)
    relation = duckdb.connect().sql("select * from arrow where stars < 10 order by id")
    assert arrow.num_rows == 50
    assert table.insert(relation).inserted == 10
    assert written(table) == ROWS[:10]


def test_a_result_of_another_table(table: Table, db: Database) -> None:
    table.insert(ROWS)
    other = db.create_table("others", COLUMNS)
    assert other.insert(table.where(table.stars < 5).collect()).inserted == 5
    assert other.insert(row for row in table.where(table.stars >= 45).stream()).inserted == 5
    assert [row["stars"] for row in written(other)] == [0, 1, 2, 3, 4, 45, 46, 47, 48, 49]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl", "arrow"])
def test_files(table: Table, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.{ending}"
    frame = pa.Table.from_pylist(ROWS)
    if ending == "parquet":
        pa.parquet.write_table(frame, path)
    elif ending == "arrow":
        with pa.ipc.new_file(path, frame.schema) as sink:
            sink.write_table(frame)
    elif ending == "jsonl":
        path.write_bytes(pl.DataFrame(ROWS).write_ndjson().encode())
    else:
        plain = frame.drop_columns(["tags"])
        pa.csv.write_csv(plain, path)
    assert table.insert(path if ending == "csv" else str(path)).inserted == 50
    assert [row["title"] for row in written(table)] == [row["title"] for row in ROWS]
    if ending != "csv":
        assert written(table) == ROWS


def test_files_that_cannot_be_read(table: Table, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be opened"):
        table.insert(tmp_path / "missing.csv")
    with pytest.raises(Unsupported, match=r"known endings"):
        table.insert("rows.xlsx")
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    with pytest.raises(InvalidInput, match="Parquet"):
        table.insert(tmp_path / "bad.parquet")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InvalidInput, match="cannot be opened"):
        table.insert(tmp_path / "folder.csv")


def test_a_frame_lands_whole_or_not_at_all(table: Table) -> None:
    bad = pd.DataFrame([*ROWS, {"id": "bad", "title": None, "stars": 1.5, "tags": None}])
    with pytest.raises(InvalidRow):
        table.insert(bad)
    assert table.count() == 0


def test_a_generator_lands_in_batches_and_says_how_far_it_came(table: Table) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for i in range(5_000):
            yield {"id": f"{i:05}", "stars": i if i != 4_321 else "bad"}

    with pytest.raises(InvalidRow, match="row 4321") as caught:
        table.insert(rows())
    assert caught.value.context["row"] == 4_321
    assert caught.value.context["inserted"] == table.count() == 4_000


def test_batches_grow_where_rows_are_small() -> None:
    def sizes(cell: Any, rows: int) -> list[int]:
        return [len(batch) for batch in _drawn(iter([{"x": cell}] * rows))]

    assert sizes("small", 30_000) == [2_000, 2_000, 4_000, 8_000, 10_000, 4_000]
    assert sizes(b"x" * 20_000, 6_500) == [2_000, 2_000, 2_000, 500]
    assert sizes(np.ones(700, "f4"), 20_000)[-2] < 10_000


def test_a_generator_runs_on_the_thread_that_inserts(table: Table) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("create table source as select 1 as stars union select 2")
    seen: set[int] = set()

    def rows() -> Iterator[dict[str, Any]]:
        for (stars,) in connection.execute("select stars from source"):
            seen.add(threading.get_ident())
            yield {"stars": stars}

    assert table.insert(rows()).inserted == 2
    assert seen == {threading.get_ident()}
    connection.close()


def test_an_error_of_a_generator_comes_out_as_it_was(table: Table) -> None:
    closed = []

    def rows() -> Iterator[dict[str, Any]]:
        try:
            yield {"stars": 1}
            raise LookupError("in the generator")
        finally:
            closed.append(True)

    with pytest.raises(LookupError, match="in the generator"):
        table.insert(rows())
    assert closed == [True]
    assert table.count() == 0


def test_vectors_of_frames(db: Database) -> None:
    table = db.create_table("points", {"v": {"type": "vector", "dimensions": 4}})
    matrix = np.arange(1, 41, dtype=np.float32).reshape(10, 4)
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), 4)
    table.insert(pa.table({"id": [f"{i}" for i in range(10)], "v": fixed}))
    table.insert(pl.DataFrame({"id": ["p"], "v": pl.Series([matrix[0]], dtype=pl.Array(pl.Float32, 4))}))
    table.insert(pd.DataFrame({"id": ["q"], "v": [matrix[1].tolist()]}))
    found = table.select("id", "v").order_by("id").collect()
    assert np.array_equal(np.stack([row.v for row in found[:10]]), matrix)
    assert np.array_equal(found[10].v, matrix[0])
    assert np.array_equal(found[11].v, matrix[1])


def test_an_export_can_be_inserted_again(table: Table, db: Database) -> None:
    table.insert(ROWS)
    copy = db.create_table("copy", COLUMNS)
    copy.insert(table.order_by("id").collect().to_polars())
    assert written(copy) == ROWS


async def test_async_iterators() -> None:
    async def rows() -> AsyncIterator[dict[str, Any]]:
        for row in ROWS:
            yield row

    async with await connect_async("memory:") as db:
        table = await db.create_table("things", COLUMNS)
        assert (await table.insert(rows())).inserted == 50
        assert (await table.upsert(row for row in ROWS)).replaced == 50
        assert await table.count() == 50
