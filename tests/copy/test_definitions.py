"""Definitions that change while a table is copied: the copy is of one definition, whole, or there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.copy.test_copy import SETTINGS, contents, ignore
from vectable import AsyncDatabase, AsyncTable, connect_async
from vectable.engine.copy import copy_tables
from vectable.errors import Conflict

Change = Callable[[AsyncTable], Awaitable[Any]]
CHANGES: dict[str, Change] = {
    "a column added": lambda t: t.add_column("year", "int", default=2026),
    "a column dropped": lambda t: t.drop_column("n"),
    "a column renamed": lambda t: t.rename_column("n", "number"),
    "an embedding column added": lambda t: t.add_embedding_column(
        "second", source="title", model="hashing/16"
    ),
    "an embedding column dropped": lambda t: t.drop_column("emb"),
}


@pytest.fixture(params=["sqlite-sqlite", "memory-sqlite", "sqlite-memory"])
async def sides(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[AsyncDatabase, AsyncDatabase]]:
    kinds = request.param.split("-")
    urls = ["memory:" if kind == "memory" else str(tmp_path / str(i)) for i, kind in enumerate(kinds)]
    async with AsyncExitStack() as stack:
        source, target = [
            await stack.enter_async_context(await connect_async(url, **SETTINGS)) for url in urls
        ]
        table = await source.create_table("books", {"title": "string", "n": "int"})
        await table.add_embedding_column("emb", source="title")
        await table.insert([{"id": f"{i:04}", "title": f"book {i % 40}", "n": i} for i in range(2_200)])
        yield source, target


def change_during_writes(
    monkeypatch: pytest.MonkeyPatch, target: AsyncDatabase, at: set[int], change: Callable[[], Awaitable[Any]]
) -> None:
    """The source is changed after rows were read from it, and before the destination has them: at the writes
    of those numbers."""
    write, count = target.engine.backend.write, 0

    async def changing(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count in at:
            await change()
        return await write(*arguments, **options)

    monkeypatch.setattr(target.engine.backend, "write", changing)


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("at", [1, 3])
async def test_a_change_meanwhile_begins_the_table_again(
    sides: tuple[AsyncDatabase, AsyncDatabase], monkeypatch: pytest.MonkeyPatch, kind: str, at: int
) -> None:
    source, target = sides
    table = await source.table("books")
    change_during_writes(monkeypatch, target, {at}, lambda: CHANGES[kind](table))
    done = await copy_tables(source.engine, target.engine, None, ignore)
    assert [(t.status, t.rows) for t in done.tables] == [("copied", 2_200)]
    ours, theirs = await source.table("books"), await target.table("books")
    assert theirs.definition.columns == ours.definition.columns
    assert await contents(target) == await contents(source)
    again = await copy_tables(source.engine, target.engine, None, ignore)
    assert [t.status for t in again.tables] == ["verified"]


async def test_a_definition_that_never_rests_is_a_conflict_and_leaves_nothing_in_the_way(
    sides: tuple[AsyncDatabase, AsyncDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = sides
    table, number = await source.table("books"), 0

    async def change() -> None:
        nonlocal number
        number += 1
        await table.add_column(f"c{number}", "int")

    with monkeypatch.context() as patch:
        change_during_writes(patch, target, set(range(100)), change)
        with pytest.raises(Conflict, match="kept changing"):
            await copy_tables(source.engine, target.engine, None, ignore)
    assert await target.tables() == []
    await copy_tables(source.engine, target.engine, None, ignore)
    assert await contents(target) == await contents(source)


async def test_a_table_dropped_meanwhile_is_a_conflict(
    sides: tuple[AsyncDatabase, AsyncDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = sides
    change_during_writes(monkeypatch, target, {2}, lambda: source.drop_table("books"))
    with pytest.raises(Conflict, match="dropped"):
        await copy_tables(source.engine, target.engine, None, ignore)
    assert await target.tables() == []
    done = await copy_tables(source.engine, target.engine, None, ignore)
    assert done.tables == []


async def test_a_table_renamed_later_keeps_its_name_there_and_says_so(
    sides: tuple[AsyncDatabase, AsyncDatabase],
) -> None:
    source, target = sides
    await copy_tables(source.engine, target.engine, None, ignore)
    await source.rename_table("books", "volumes")
    [done] = (await copy_tables(source.engine, target.engine, None, ignore)).tables
    assert (done.name, done.status, done.notes) == ("volumes", "verified", ["it is called 'books' there"])
