"""What tables of other libraries hold beside plain columns: JSON as text, row numbers, mixed values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

import vectable
from vectable import Database, Table
from vectable.errors import InvalidInput, InvalidRow
from vectable.ingest.inference import columns_of

DOCUMENTS: list[Any] = [{"a": [1, None, {"b": "é"}]}, [1, 2], "text", "1", 1, 2**63, 0.5, True, None]


@pytest.fixture
def db() -> Any:
    with vectable.connect("memory:", fake_embeddings=True) as found:
        yield found


@pytest.fixture
def table(db: Database) -> Table:
    return db.create_table("t", {"title": "string", "n": "int", "meta": "json", "at": "timestamp"})


def test_json_survives_the_way_out_and_in(table: Table, db: Database) -> None:
    table.insert([{"id": str(i), "meta": meta} for i, meta in enumerate(DOCUMENTS)])
    found = table.select("id", "meta").collect()
    for exported in (found.to_arrow(), found.to_pandas(), found.to_polars(), found):
        copy = db.create_table("copy", {"meta": "json"})
        copy.insert(exported)
        assert [row.meta for row in copy.select().collect()] == DOCUMENTS
        copy.drop()


def test_the_json_type_of_arrow_is_json_wherever_it_lands(table: Table, tmp_path: Path) -> None:
    texts = pa.array(['{"a": 1}', None])
    data = pa.table({"id": ["a", "b"], "meta": pa.ExtensionArray.from_storage(pa.json_(pa.string()), texts)})
    table.insert(data)
    assert [row.meta for row in table.select("meta").collect()] == [{"a": 1}, None]
    file = tmp_path / "a.parquet"
    pa.parquet.write_table(data, file)
    assert columns_of(file, "parquet") == {"id": "string", "meta": "json"}


def test_text_that_is_no_json_says_where_and_how_to_write_it(table: Table) -> None:
    texts = ["1"] * 2_500 + ["plain words"]
    data = pl.DataFrame({"id": [str(i) for i in range(2_501)], "meta": texts})
    with pytest.raises(InvalidRow, match=r"row 2500, column 'meta': .*not JSON") as caught:
        table.insert(data)
    assert caught.value.context["row"] == 2_500
    assert "with its quotes" in str(caught.value.hint)
    assert table.count() == 0


def test_structs_are_json_as_they_are(table: Table) -> None:
    table.insert(duckdb.connect().sql("select 'a' as id, {'x': [1, 2]} as meta"))
    assert table.get("a").meta == {"x": [1, 2]}


def test_the_row_numbers_of_pandas_are_no_column(table: Table) -> None:
    frame = pd.DataFrame({"id": ["a", "b", "c", "d"], "n": [1, 2, 3, 4]})
    table.insert(frame[frame.n.isin([2, 4, 3])].iloc[[2, 0]])
    assert [row.id for row in table.select("id").collect()] == ["b", "d"]


def test_an_index_with_a_name_is_a_column(table: Table) -> None:
    table.insert(pd.DataFrame({"id": ["a"], "n": [1]}).set_index("id"))
    assert table.get("a").n == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: pd.DataFrame({"id": ["a", "b"], "meta": [{"x": 1}, "y"]}),
        lambda: pd.Series(["a"], name="id"),
        lambda: duckdb.connect().sql(f"select 'a' as id, {2**127 - 1}::hugeint as n"),
    ],
    ids=["mixed", "series", "hugeint"],
)
def test_what_no_arrow_table_comes_of_is_refused_in_words(table: Table, make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidInput, match="cannot be read as an Arrow table") as caught:
        table.insert(make())
    assert "rows as dicts" in str(caught.value.hint)
    assert table.count() == 0


def test_whole_numbers_with_a_point_are_integers_in_csv(table: Table, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    pd.DataFrame({"id": ["a", "b"], "n": [1, None]}).to_csv(file, index=False)
    assert "1.0" in file.read_text()
    table.insert(file)
    assert [row.n for row in table.select("n").collect()] == [1, None]
