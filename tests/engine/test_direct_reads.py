"""Pages, counts and rows that PostgreSQL gives by one statement, without a view."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import vectable
from vectable.backends.postgres import PostgresBackend
from vectable.blocking import Database, Table
from vectable.state.postgres import PostgresStateStore

COLUMNS = {"id": "int", "part": "int", "title": "string"}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a view was opened, and the catalogue read."""
    counts = {"view": 0, "catalogue": 0}
    view, get = PostgresBackend.view, PostgresStateStore.get

    def counted_view(self, *args, **options):
        counts["view"] += 1
        return view(self, *args, **options)

    async def counted_get(self, *args, **options):
        counts["catalogue"] += 1
        return await get(self, *args, **options)

    monkeypatch.setattr(PostgresBackend, "view", counted_view)
    monkeypatch.setattr(PostgresStateStore, "get", counted_get)
    return counts


@pytest.fixture
def both(postgres_url: str) -> Iterator[tuple[Database, Database]]:
    """Two processes' handles, as it were, on a database with a table `t`."""
    with vectable.connect(postgres_url) as database, vectable.connect(postgres_url) as other:
        table = database.create_table("t", COLUMNS)
        table.insert([{"id": i, "part": i % 3, "title": f"row {i}"} for i in range(30)])
        yield database, other


def ids(table: Table, **options: int) -> list[int]:
    return [row["id"] for row in table.where(**options).limit(3).collect()]


def test_small_reads_open_no_view_and_ask_the_catalogue_nothing(
    both: tuple[Database, Database], calls: dict[str, int]
) -> None:
    table = both[0].table("t")
    ids(table)
    calls.update(view=0, catalogue=0)
    page = table.where(part=1).order_by("-title").select("id").limit(2).collect()
    assert [row["id"] for row in page] == [7, 4]
    assert page.plan.path == "scan"
    behind = table.where(part=1).order_by("-title").select("id").limit(20)
    assert [row["id"] for row in behind.cursor(page.next_cursor).collect()] == [28, 25, 22, 19, 16, 13, 10, 1]
    assert [row["id"] for row in table.where(part=1).offset(8).limit(5).collect()] == [25, 28]
    assert table.where(part=1).offset(8).limit(5).collect().next_cursor is None
    assert ids(table, part=7) == []
    assert (table.where(part=2).count(), table.where(part=7).count()) == (10, 0)
    assert table.get(12)["title"] == "row 12"
    assert calls == {"view": 0, "catalogue": 0}


def test_what_others_write_is_seen_at_once(both: tuple[Database, Database]) -> None:
    table, theirs = (database.table("t") for database in both)
    for number in range(5):
        first = ids(table)
        theirs.delete(theirs.id == first[0])
        assert ids(table)[0] == first[1]
        assert table.where().count() == 29 - number
        with pytest.raises(vectable.errors.RowNotFound):
            table.get(first[0])
    theirs.insert({"id": -1, "part": 9, "title": "new"})
    assert (ids(table)[0], ids(table, part=9), table.get(-1)["title"]) == (-1, [-1], "new")


def test_another_definition_is_noticed_by_the_next_read(both: tuple[Database, Database]) -> None:
    database, other = both
    table = database.table("t")
    assert (ids(table), table.where(part=1).count(), table.get(3)["part"]) == ([0, 1, 2], 10, 0)
    other.table("t").drop_column("part")
    assert table.where().limit(1).collect()[0] == {"id": 0, "title": "row 0"}
    for read in (lambda: ids(table, part=1), lambda: ids(table, part=7), table.where(part=1).count):
        with pytest.raises(vectable.errors.UnknownColumn):
            read()
    other.table("t").add_column("part", "int", default=5)
    assert (ids(table, part=5), table.where(part=1).count(), table.get(3)["part"]) == ([0, 1, 2], 0, 5)


def test_another_table_under_the_name_is_noticed_by_the_next_read(both: tuple[Database, Database]) -> None:
    database, other = both
    table = database.table("t")
    assert table.where().count() == 30
    for _ in range(2):
        other.rename_table("t", "old")
        for read in (lambda: ids(table), table.where().count, lambda: table.get(3)):
            with pytest.raises(vectable.errors.TableNotFound):
                read()
        other.create_table("t", COLUMNS).insert([{"id": 3, "part": 0, "title": "another"}])
        assert (ids(table), table.where().count(), table.get(3)["title"]) == ([3], 1, "another")
        other.drop_table("t")
        other.rename_table("old", "t")
        assert (ids(table), table.where().count(), table.get(3)["title"]) == ([0, 1, 2], 30, "row 3")
