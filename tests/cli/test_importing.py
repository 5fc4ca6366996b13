"""import: files become tables, types are told by the file, nothing is imported twice unnoticed."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from tests.cli.conftest import BOOKS, CommandLine
from vectable import connect
from vectable.cli.importing.load import _Source
from vectable.errors import InvalidInput
from vectable.ingest.inference import columns_of, json_type, merged, text_type


def test_a_file_is_imported_once_unless_told_otherwise(cli: CommandLine) -> None:
    (cli.directory / "books.csv").write_text(BOOKS, "utf-8")
    first = cli.json("import", "books", "books.csv", "--embed", "blurb")
    assert first["created"] is True
    assert (first["inserted"], first["replaced"], first["skipped"]) == (3, 0, 0)
    assert first["states"]["blurb_embedding"]["ready"] == 3
    again = cli("import", "books", "books.csv")
    assert again.returncode == 1
    assert "--on-conflict replace, or skip" in again.stderr
    assert cli.json("import", "books", "books.csv", "--on-conflict", "skip")["skipped"] == 3
    replaced = cli.json("import", "books", "books.csv", "--embed", "blurb", "--on-conflict", "replace")
    assert (replaced["created"], replaced["replaced"]) == (False, 3)
    assert cli.json("tables")["tables"][0]["rows"] == 3


def test_values_arrive_as_what_they_are(books: CommandLine) -> None:
    with connect(books.database, fake_embeddings=True) as db:
        dune, emma = db.table("books").get(1), db.table("books").get(2)
    assert dict(dune) == {
        "id": 1,
        "title": "Dune",
        "blurb": "A desert planet, spice and worms",
        "year": 1965,
        "price": 9.5,
        "zip": "00123",
        "published": dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        "fiction": True,
    }
    assert (emma.price, emma.published) == (None, None)


def test_types_and_key_may_be_given(cli: CommandLine) -> None:
    (cli.directory / "x.csv").write_text('code,year,emb\na,1999,"[1, 0.5]"\nb,2001,"[0, 1]"\n', "utf-8")
    cli.ok("import", "x", "x.csv", "--key", "code", "--type", "year=string", "--type", "emb=vector(2)")
    found = cli.json("describe", "x")
    assert found["key"] == ["code"]
    assert (found["columns"]["year"]["type"], found["columns"]["emb"]["dimensions"]) == ("string", 2)
    late = cli("import", "x", "x.csv", "--key", "year", "--on-conflict", "skip")
    assert late.returncode == 1 and "its key and types are what they are" in late.stderr
    unknown = cli("import", "y", "x.csv", "--type", "yaer=int")
    assert "did you mean 'year'?" in unknown.stderr
    assert [t["name"] for t in cli.json("tables")["tables"]] == ["x"]


def test_many_rows_are_embedded_before_it_returns(cli: CommandLine) -> None:
    rows = [{"id": str(i), "text": f"text number {i}"} for i in range(2_500)]
    (cli.directory / "many.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    found = cli.json("import", "many", "many.jsonl", "--embed", "text")
    assert found["inserted"] == 2_500
    assert found["states"]["text_embedding"] | {"in_progress": 0} == {
        "ready": 2_500, "new": 0, "stale": 0, "error": 0, "empty": 0, "in_progress": 0,
    }  # fmt: skip


def test_a_bad_row_is_named_and_what_came_before_it_kept(cli: CommandLine) -> None:
    lines = [json.dumps({"id": i, "n": i}) for i in range(4_500)]
    lines[4_321] = '{"id": 4321, "n": "many"}'
    (cli.directory / "x.jsonl").write_text("\n".join(lines), "utf-8")
    done = cli("import", "x", "x.jsonl", "--type", "n=int", "--json")
    error = json.loads(done.stderr)
    assert (done.returncode, done.stdout, error["code"]) == (1, "", "invalid-row")
    assert error["context"]["row"] == 4_321
    assert error["context"]["inserted"] == cli.json("tables")["tables"][0]["rows"] == 4_000
    assert "4,000 rows before are kept" in error["hint"]
    lines[4_321] = '{"id": 4321, "n": 4321}'
    (cli.directory / "x.jsonl").write_text("\n".join(lines), "utf-8")
    found = cli.json("import", "x", "x.jsonl", "--on-conflict", "skip")
    assert (found["inserted"], found["skipped"]) == (500, 4_000)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.txt", "a", "known endings"),
        ("x.csv", "", "is empty"),
        ("x.jsonl", "", "is empty"),
        ("x.jsonl", "{broken", "line 1"),
        ("x.csv", "first name\nAnn\n", "cannot name a column"),
        ("x.parquet", "no parquet", "cannot be read as parquet"),
        ("x.arrow", "no arrow", "cannot be read as arrow"),
    ],
)
def test_a_file_that_cannot_be_one_makes_no_table(
    cli: CommandLine, name: str, content: str, sentence: str
) -> None:
    (cli.directory / name).write_text(content, "utf-8")
    done = cli.inside("import", "x", name)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert [p.name for p in cli.directory.iterdir()] == [name]


@pytest.mark.parametrize("option", ["--embed", "--key"])
def test_a_misspelt_column_makes_no_table(books: CommandLine, option: str) -> None:
    done = books.inside("import", "more", "books.csv", option, "blrub")
    assert done.returncode == 1
    assert "did you mean 'blurb'?" in done.stderr
    assert [t["name"] for t in books.json("tables")["tables"]] == ["books"]


ARROW = pa.table(
    {
        "id": pa.array(["a", "b"]),
        "kind": pa.array(["x", "y"]).dictionary_encode(),
        "stars": pa.array([1, 2], pa.int32()),
        "price": pa.array([1.5, None], pa.float32()),
        "ok": pa.array([True, None]),
        "seen": pa.array([dt.datetime(2024, 1, 2, tzinfo=dt.UTC)] * 2, pa.timestamp("us", "UTC")),
        "tags": pa.array([["p", "q"], []], pa.list_(pa.string())),
        "meta": pa.array([{"k": 1}, None], pa.struct([("k", pa.int64())])),
        "emb": pa.FixedSizeListArray.from_arrays(pa.array([1, 0, 0, 1], pa.float32()), 2),
    }
)
ARROW_TYPES: dict[str, Any] = {
    "id": "string",
    "kind": "string",
    "stars": "int",
    "price": "float",
    "ok": "bool",
    "seen": "timestamp",
    "tags": "string[]",
    "meta": "json",
    "emb": {"type": "vector", "dimensions": 2},
}


@pytest.mark.parametrize("name", ["x.parquet", "x.feather", "x.arrows"])
def test_parquet_and_arrow_tell_types_by_their_schema(cli: CommandLine, name: str) -> None:
    path = cli.directory / name
    if name == "x.parquet":
        pyarrow.parquet.write_table(ARROW, path)
    elif name == "x.feather":
        pyarrow.feather.write_feather(ARROW, path, compression="uncompressed")
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, ARROW.schema) as writer:
            writer.write_table(ARROW)
    assert columns_of(path, "parquet" if name == "x.parquet" else "arrow") == ARROW_TYPES
    assert cli.json("import", "x", name)["inserted"] == 2
    with connect(cli.database, fake_embeddings=True) as db:
        row = db.table("x").get("a")
        assert row.seen == dt.datetime(2024, 1, 2, tzinfo=dt.UTC)
        assert (row.tags, row.meta, row.stars) == (["p", "q"], {"k": 1}, 1)
        assert db.table("x").similar([1.0, 0.0]).first().id == "a"


def test_times_without_a_zone_are_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pa.table({"t": pa.array([0], pa.timestamp("us"))}), path)
    with pytest.raises(InvalidInput, match="Arrow type timestamp"):
        columns_of(path, "parquet")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "-20", ""], "int"),
        (["1", "2.5", "1e9", ".5"], "float"),
        (["9223372036854775808"], "float"),
        (["007"], "string"),
        (["1", "x"], "string"),
        (["-"], "string"),
        (["nan"], "string"),
        (["true", "FALSE", ""], "bool"),
        (["2024-01-02T03:04:05Z", "2024-01-02 03:04:05+02:00"], "timestamp"),
        (["2024-01-02T03:04:05"], "string"),
        (["2024-13-02T03:04:05Z"], "string"),
        (["2024-01-02"], "string"),
        (["", ""], "string"),
    ],
)
def test_csv_columns_get_the_narrowest_type_all_cells_spell(cells: list[str], expected: str) -> None:
    assert text_type(cells) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, None], "int"),
        ([1, 2.5], "float"),
        ([1 << 70], "json"),
        ([True, 1], "json"),
        (["a", "2024-01-02T03:04:05Z"], "string"),
        (["2024-01-02T03:04:05Z"], "timestamp"),
        ([["a"], []], "string[]"),
        ([[1], [2.5]], "float[]"),
        ([[1], ["a"]], "json"),
        ([[1, None]], "json"),
        ([["2024-01-02T03:04:05Z"]], "string[]"),
        ([[], []], "json"),
        ([{"a": 1}], "json"),
        ([[1], 1], "json"),
        ([None], "string"),
    ],
)
def test_json_values_get_one_type_that_holds_them_all(values: list[Any], expected: str) -> None:
    assert merged({json_type(v) for v in values}) == expected


def test_progress_knows_the_rows_of_parquet_and_estimates_those_of_text(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(ARROW, tmp_path / "x.parquet")
    assert _Source(tmp_path / "x.parquet", "parquet").total(0) == 2
    text = tmp_path / "x.jsonl"
    text.write_text(
        "".join(f'{{"id": {i:06}, "t": "{"x" * 90}"}}\n'.replace(": 0", ": 1") for i in range(20_000))
    )
    source = _Source(text, "ndjson")
    assert source.total(0) is None
    batches = source.batches(None)
    seen = len(next(batches))
    batches.close()
    estimate = source.total(seen)
    assert estimate is not None and 18_000 < estimate < 22_000
