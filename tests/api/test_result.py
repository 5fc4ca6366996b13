"""Results: rows by name, exports with the right types, and what people see."""

from __future__ import annotations

import datetime as dt
import json
import pickle
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from vectable.core.plan import Plan
from vectable.core.schema import Column, ColumnType, Table, Version
from vectable.errors import UnknownColumn
from vectable.handles.result import Coverage, Result, Row
from vectable.handles.show import cell, columns_text, cut, plan_text

MOMENT = dt.datetime(2026, 1, 31, 12, 0, 0, 250, tzinfo=dt.UTC)


def a_table() -> Table:
    version = Version(dimensions=3)
    types = {
        "id": ColumnType.STRING,
        "n": ColumnType.INT,
        "x": ColumnType.FLOAT,
        "ok": ColumnType.BOOL,
        "at": ColumnType.TIMESTAMP,
        "meta": ColumnType.JSON,
        "tags": ColumnType.STRINGS,
        "ints": ColumnType.INTS,
        "floats": ColumnType.FLOATS,
        "picture": ColumnType.IMAGE,
    }
    columns = [Column(name=name, type=type_) for name, type_ in types.items()]
    columns.append(Column(name="emb", type=ColumnType.VECTOR, versions=(version,), active=version.id))
    return Table(name="things", key=(columns[0].id,), columns=tuple(columns))


FULL: dict[str, Any] = {
    "id": "a",
    "n": 2**53 + 1,
    "x": 1.5,
    "ok": True,
    "at": MOMENT,
    "meta": {"stars": 3, "name": "é"},
    "tags": ["x", "y"],
    "ints": [1, 2],
    "floats": [0.5],
    "picture": b"\x89PNG",
    "emb": np.array([1, 2, 3], np.float32),
}
EMPTY: dict[str, Any] = dict.fromkeys(FULL) | {"id": "b"}


def a_result(rows: list[dict[str, Any]], scored: bool = True, **changes: Any) -> Result:
    plan = Plan(path="flat", why="small", exact=True, times_ms={"total": 1.234})
    n = len(rows)
    found: dict[str, Any] = {
        "table": a_table(),
        "rows": rows,
        "plan": plan,
        "scores": [1 - i / 10 for i in range(n)] if scored else None,
        "distances": [i / 10 for i in range(n)] if scored else None,
        "coverage": Coverage(10_000, 9_998),
    }
    return Result(**(found | changes))


def test_a_row_is_read_by_name_and_by_attribute() -> None:
    row = Row({"title": "Hooks", "items": 3}, 0.9, 0.1)
    assert (row.title, row["title"], row["items"]) == ("Hooks", "Hooks", 3)
    assert (row.score, row.distance) == (0.9, 0.1)
    assert dict(row) == {"title": "Hooks", "items": 3}
    assert row == {"title": "Hooks", "items": 3}
    assert row.get("nothing") is None
    assert "title" in dir(row)
    assert pickle.loads(pickle.dumps(row)).score == 0.9


def test_a_misspelt_name_of_a_row_says_what_there_is() -> None:
    row = Row({"quality_score": 3})
    with pytest.raises(UnknownColumn, match="did you mean 'quality_score'"):
        row.quality_scor  # noqa: B018
    with pytest.raises(KeyError):
        row["quality_scor"]
    assert not hasattr(row, "quality_scor")
    assert row.score is None


def test_a_result_is_a_sequence_of_rows() -> None:
    result = a_result([{"id": "a"}, {"id": "b"}, {"id": "c"}])
    assert len(result) == 3
    assert [row.id for row in result] == ["a", "b", "c"]
    assert result[-1].score == pytest.approx(0.8)
    assert [row.id for row in result[1:]] == ["b", "c"]
    assert result[1:][0].score == result[1].score
    assert not a_result([])


def test_a_slice_of_a_result_does_not_pretend_to_be_a_page() -> None:
    result = a_result([{"id": "a"}, {"id": "b"}], make_cursor=lambda: "more")
    assert result[:1].next_cursor is None
    assert result[:].next_cursor == "more"


def test_dicts_carry_scores_and_do_not_touch_the_result() -> None:
    result = a_result([{"id": "a"}])
    dicts = result.to_dicts()
    assert dicts == [{"id": "a", "score": 1.0, "distance": 0.0}]
    dicts[0]["id"] = "changed"
    assert result[0].id == "a"
    assert a_result([{"id": "a"}], scored=False).to_dicts() == [{"id": "a"}]


def test_arrow_types_follow_the_columns() -> None:
    table = a_result([FULL, EMPTY]).to_arrow()
    assert table.schema.types == [
        pa.string(),
        pa.int64(),
        pa.float64(),
        pa.bool_(),
        pa.timestamp("us", tz="UTC"),
        pa.string(),
        pa.list_(pa.string()),
        pa.list_(pa.int64()),
        pa.list_(pa.float64()),
        pa.binary(),
        pa.list_(pa.float32(), 3),
        pa.float64(),
        pa.float64(),
    ]
    first, second = table.to_pylist()
    assert json.loads(first.pop("meta")) == FULL["meta"]
    assert first.pop("emb") == [1.0, 2.0, 3.0]
    assert first == {k: v for k, v in FULL.items() if k not in ("meta", "emb")} | {
        "score": 1.0,
        "distance": 0,
    }
    assert second == EMPTY | {"score": 0.9, "distance": 0.1}


def test_arrow_types_are_the_same_without_rows() -> None:
    names = tuple(FULL)
    full = a_result([FULL, EMPTY]).to_arrow().schema
    assert a_result([], select=names).to_arrow().schema == full
    assert a_result([]).to_arrow().schema.names == [n for n in names if n != "emb"] + ["score", "distance"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, None, 3], pa.int64()),
        ([1, 2.5], pa.float64()),
        (["a", None], pa.string()),
        ([True], pa.bool_()),
        ([True, 1], pa.string()),
        ([{"a": 1}], pa.string()),
        ([2**64], pa.string()),
        ([None], pa.string()),
    ],
)
def test_parts_of_json_have_the_type_all_values_share(values: list[Any], expected: pa.DataType) -> None:
    table = a_result([{"meta.stars": v} for v in values]).to_arrow()
    column = table.column("meta.stars")
    assert column.type == expected
    texts = expected == pa.string() and not all(v is None or isinstance(v, str) for v in values)
    got = [json.loads(v) if texts and v is not None else v for v in column.to_pylist()]
    assert got == values


def test_pandas_keeps_integers_and_times_exact() -> None:
    frame = a_result([FULL, EMPTY]).to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["n"].dtype == "Int64"
    assert frame["n"][0] == 2**53 + 1
    assert frame["n"].isna().tolist() == [False, True]
    assert frame["ok"].dtype == "boolean"
    assert str(frame["at"].dtype) == "datetime64[us, UTC]"
    assert frame["at"][0].to_pydatetime() == MOMENT
    assert frame["emb"][0].dtype == np.float32
    assert frame["score"].tolist() == [1.0, 0.9]


def test_polars_gets_fixed_size_vectors() -> None:
    frame = a_result([FULL, EMPTY]).to_polars()
    assert frame.schema["emb"] == pl.Array(pl.Float32, 3)
    assert frame.schema["at"] == pl.Datetime("us", "UTC")
    assert frame["n"].to_list() == [2**53 + 1, None]
    assert frame["emb"].to_list() == [[1, 2, 3], None]


def test_other_libraries_read_a_result_as_it_is() -> None:
    result = a_result([{"id": "a", "n": 1}, {"id": "b", "n": 2}])
    assert pa.table(result).num_rows == 2
    assert pl.DataFrame(result).height == 2
    assert duckdb.connect().sql("select sum(n) from result where score > 0.95").fetchall() == [(1,)]


def test_a_terminal_sees_an_aligned_table_score_first() -> None:
    rows = [{"id": "a", "title": "Hooks", "n": 5}, {"id": "bb", "title": "State", "n": 12345}]
    text = repr(a_result(rows))
    assert text.splitlines() == [
        "score   id  title      n",
        "──────  ──  ─────  ─────",
        "1.0000  a   Hooks      5",
        "0.9000  bb  State  12345",
        "2 hits in 1.2 ms, exact, 9,998 of 10,000 rows searchable",
    ]


def test_long_results_and_long_texts_are_cut() -> None:
    rows = [{"id": str(i), "title": "word " * 100} for i in range(50)]
    lines = repr(a_result(rows)).splitlines()
    assert len(lines) == 2 + 20 + 2
    assert lines[-2] == "… 30 more"
    assert all(len(line) <= 100 for line in lines)
    assert lines[2].endswith("…")


def test_a_narrow_terminal_names_the_columns_it_has_no_room_for() -> None:
    columns = {f"column{i}": ["some text"] for i in range(10)}
    text = columns_text(columns, width=40)
    assert all(len(line) <= 40 for line in text.splitlines())
    assert "not shown: " in text
    assert "column0" in text.splitlines()[0]


def test_wide_characters_stay_aligned_and_are_cut_by_what_they_take() -> None:
    from rich.cells import cell_len

    text = columns_text({"a": ["日本語", "abc"], "b": [1, 2]})
    assert len({cell_len(line) for line in text.splitlines()}) == 1
    assert cell_len(cut("日本語日本語", 7)) <= 7


@pytest.mark.parametrize("evil", ["\x1b[31mred\x1b[0m", "a\rb", "\x9b2J", "a\u202eb", "x\x00y"])
def test_values_cannot_command_the_terminal(evil: str) -> None:
    shown = repr(a_result([{"id": evil}])) + repr(Row({"id": evil}))
    assert all(c.isprintable() or c == "\n" for c in shown)


def test_values_on_one_line() -> None:
    assert cell("two\n  lines\t here") == "two lines here"
    assert cell(None) == "–"
    assert cell(MOMENT) == "2026-01-31 12:00:00.000250Z"
    assert cell(b"123") == "‹3 bytes›"
    assert cell(np.arange(384, dtype=np.float32)) == "[0, 1, 2, … 384]"
    assert cell({"a": [1, "é"]}) == '{"a": [1, "é"]}'


def test_a_notebook_gets_escaped_html() -> None:
    evil = "<script>alert('x')</script>"
    page = a_result([{"id": evil, "n": 1}], select=("id", "n"))._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "1 hit in 1.2 ms, exact" in page
    assert page.index("<th>score</th>") < page.index("<th>id</th>")


def test_the_footer_says_what_the_answer_is_worth() -> None:
    approximate = Plan(path="fast-scan", why="large", exact=False, recall=0.9995, times_ms={"total": 2500})
    assert "0 hits in 2.5 s, approximate (recall 0.9995)" in repr(a_result([], plan=approximate))
    plain = repr(a_result([{"id": "a"}], scored=False, make_cursor=lambda: "c"))
    assert plain.splitlines()[-1] == "1 row in 1.2 ms, more follow (next_cursor)"


def test_a_plan_is_readable() -> None:
    plan = Plan(
        path="exact-ids",
        why="the filter keeps 12 rows",
        exact=True,
        column="emb",
        metric="cosine",
        rows_total=10_000,
        rows_searchable=9_000,
        rows_matching=12,
        rows_examined=12,
        fallbacks=["fast-scan: short page"],
        times_ms={"search": 0.2, "total": 1200.0},
    )
    text = plan_text(plan)
    assert "exact-ids (exact)" in text
    assert "10,000, 9,000 searchable, 12 matching the filter" in text
    assert "tried first" in text
    assert "search 0.20 ms, total 1.2 s" in text
