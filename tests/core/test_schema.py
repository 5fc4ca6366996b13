"""Schema: names, definitions, immutability, and the states of cells."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from vectable.core.cell import CELL_STATES, Cell
from vectable.core.schema import (
    Column,
    ColumnType,
    Index,
    Metric,
    Table,
    Version,
    check_name,
    new_id,
    split_table_name,
)
from vectable.errors import InvalidInput, UnknownColumn


@pytest.mark.parametrize("name", ["a", "_a", "title", "größe", "標題", "select", "a1", "x" * 63])
def test_names_are_letters_digits_and_underscores(name: str) -> None:
    assert check_name(name, "column") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "1a",
        "a b",
        "a-b",
        "a.b",
        "__a",
        "x" * 64,
        "a\n",
        "a;drop table",
        "a'",
        'a"',
        "../a",
        "a\x00",
        "\ud800",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        check_name(name, "column")


@pytest.mark.parametrize("name", [None, 7, ["a"], b"a"])
def test_names_are_strings(name: object) -> None:
    with pytest.raises(InvalidInput):
        check_name(name, "column")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        split_table_name(name)  # type: ignore[arg-type]


def test_table_names_may_name_their_namespace() -> None:
    assert split_table_name("docs") == ("main", "docs")
    assert split_table_name("shop.docs") == ("shop", "docs")
    for bad in ["a.b.c", ".", "a.", ".a", ""]:
        with pytest.raises(InvalidInput):
            split_table_name(bad)


@pytest.mark.parametrize(
    ("alias", "metric"),
    [
        ("cosine", Metric.COSINE),
        ("euclidean", Metric.EUCLIDEAN),
        ("l2", Metric.EUCLIDEAN),
        ("inner_product", Metric.INNER_PRODUCT),
        ("dot", Metric.INNER_PRODUCT),
        ("dot_product", Metric.INNER_PRODUCT),
        ("ip", Metric.INNER_PRODUCT),
    ],
)
def test_metrics_have_aliases(alias: str, metric: Metric) -> None:
    assert Metric.parse(alias) is metric


def test_an_unknown_metric_says_what_is_known() -> None:
    with pytest.raises(InvalidInput, match="cosine, euclidean, inner_product"):
        Metric.parse("manhattan")


def made() -> Table:
    version = Version(dimensions=3)
    columns = (
        Column(name="id", type=ColumnType.STRING, nullable=False),
        Column(name="shard", type=ColumnType.INT, nullable=False),
        Column(name="title", type=ColumnType.STRING, default="untitled"),
        Column(name="emb", type=ColumnType.VECTOR, versions=(version,), active=version.id),
    )
    return Table(name="docs", key=(columns[1].id, columns[0].id), columns=columns)


def test_a_table_knows_its_columns() -> None:
    table = made()
    assert [c.name for c in table.key_columns] == ["shard", "id"]
    assert [c.name for c in table.stored_columns] == ["id", "shard", "title"]
    assert [c.name for c in table.vector_columns] == ["emb"]
    assert table.vector_column("emb").version.dimensions == 3
    assert [(c.name, v.dimensions) for c, v in table.versions] == [("emb", 3)]
    assert (table.full_name, table.model_copy(update={"namespace": "shop"}).full_name) == (
        "docs",
        "shop.docs",
    )


def test_unknown_and_unfit_columns_are_named_with_alternatives() -> None:
    table = made()
    with pytest.raises(UnknownColumn, match="did you mean 'title'"):
        table.column("titel")
    with pytest.raises(InvalidInput, match="vector columns: emb"):
        table.vector_column("title")
    with pytest.raises(InvalidInput, match="has no vectors"):
        _ = table.column("title").version


def test_definitions_are_immutable_and_strict() -> None:
    table = made()
    with pytest.raises(ValidationError):
        table.name = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Column(name="a", type=ColumnType.INT, nulable=False)  # type: ignore[call-arg]
    changed = table.replace(name="papers")
    assert (changed.name, changed.generation, changed.id) == ("papers", 2, table.id)
    assert (table.name, table.generation) == ("docs", 1)


def test_definitions_survive_json() -> None:
    table = made().replace(indexes=(Index(name="i", column="c", type="btree"),))
    assert Table.model_validate_json(table.model_dump_json()) == table


def test_ids_are_never_reused() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(i) == 32 and i == i.lower() for i in ids)


@pytest.mark.parametrize(
    ("cell", "state", "fresh", "stale"),
    [
        (Cell(), "empty", False, False),
        (Cell(want=b"a"), "new", False, False),
        (Cell(want=b"a", have=b"a", vector=b"v"), "ready", True, True),
        (Cell(want=b"b", have=b"a", vector=b"v"), "stale", False, True),
        (Cell(want=b"a", error="broke", attempts=2), "error", False, False),
        (Cell(want=b"b", have=b"a", vector=b"v", error="broke", attempts=1), "error", False, True),
        (Cell(want=b"a", have=b"a", vector=b"v", error="late"), "ready", True, True),
        (Cell(want=None, have=b"a", vector=b"v"), "empty", False, False),
    ],
)
def test_a_cell_s_state_is_derived(cell: Cell, state: str, fresh: bool, stale: bool) -> None:
    assert cell.state == state
    assert cell.state in CELL_STATES
    assert (cell.servable(stale=False), cell.servable(stale=True)) == (fresh, stale)
