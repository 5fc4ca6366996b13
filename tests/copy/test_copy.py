"""Tables copied between databases: the same rows, cells, ids and hits; nothing embedded; stops do no harm."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from vectable import AsyncDatabase, connect_async
from vectable.core.cell import Cell
from vectable.core.predicate import TRUE
from vectable.core.rows import CellWrite, WriteBatch
from vectable.core.vectors import Matrix
from vectable.engine.copy import copy_tables
from vectable.errors import AlreadyExists, InvalidInput, TableNotFound
from vectable.interfaces import Purpose
from vectable.providers.hashing import HashingProvider

SETTINGS: dict[str, Any] = {"fake_embeddings": True, "text_model": "hashing/32"}
ROWS = [
    {"id": f"{i:04}", "title": f"book {i}", "n": i, "notes": {"x": [i, 1.5, None, True]}} for i in range(1200)
]


def ignore(*_: object) -> None:
    """Nobody watches."""


@pytest.fixture(params=["sqlite-sqlite", "sqlite-memory", "memory-sqlite"])
async def sides(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[AsyncDatabase, AsyncDatabase]]:
    kinds = request.param.split("-")
    urls = ["memory:" if kind == "memory" else str(tmp_path / str(i)) for i, kind in enumerate(kinds)]
    async with AsyncExitStack() as stack:
        source, target = [
            await stack.enter_async_context(await connect_async(url, **SETTINGS)) for url in urls
        ]
        table = await source.create_table("books", {"title": "string", "n": "int", "notes": "json"})
        await table.add_embedding_column("emb", source="title")
        await table.insert(ROWS)
        yield source, target


async def contents(database: AsyncDatabase) -> dict[bytes, tuple[dict[str, Any], tuple[Cell, ...]]]:
    engine = database.engine
    table = await engine.catalog.get(database.context, "books")
    versions = [v.id for _, v in table.versions]
    found = {}
    async with engine.catalog.view(table) as view:
        names = [c.name for c in table.stored_columns]
        async for batch in view.scan(engine.backend.push(table, TRUE), names, versions):
            for i, (key, row) in enumerate(zip(batch.keys, batch.rows(), strict=True)):
                found[key] = (row, tuple(batch.cells[v][i] for v in versions))
    return found


async def test_everything_arrives_and_nothing_is_embedded(
    sides: tuple[AsyncDatabase, AsyncDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = sides
    embedded: list[Any] = []
    embed = HashingProvider.embed

    async def counted(model: HashingProvider, items: Sequence[Any], purpose: Purpose) -> Matrix:
        embedded.extend(items if purpose == "document" else ())
        return await embed(model, items, purpose)

    monkeypatch.setattr(HashingProvider, "embed", counted)
    done = await copy_tables(source.engine, target.engine, None, ignore)
    assert [(t.name, t.status, t.rows) for t in done.tables] == [("books", "copied", 1200)]
    assert done.tables[0].searches == 5
    assert await contents(target) == await contents(source)
    ours, theirs = await source.table("books"), await target.table("books")
    assert theirs.definition.columns == ours.definition.columns
    assert theirs.definition.id == ours.definition.id
    assert await target.engine.cache.size() == await source.engine.cache.size()
    for text in ("book 7", "book 900"):
        hits = [
            [(r["id"], r.score) for r in await t.similar(text).limit(10).select("id").collect()]
            for t in (ours, theirs)
        ]
        assert hits[0] == hits[1]
    again = await copy_tables(source.engine, target.engine, None, ignore)
    assert [t.status for t in again.tables] == ["verified"]
    assert embedded == []


async def test_cells_arrive_in_whatever_state_they_are(sides: tuple[AsyncDatabase, AsyncDatabase]) -> None:
    source, target = sides
    engine = source.engine
    table = await engine.catalog.get(source.context, "books")
    version = table.vector_column("emb").version.id
    keys = list(await contents(source))
    cells = [
        CellWrite(keys[0], version, b"another", set_want=True),
        CellWrite(keys[1], version, b"another", set_want=True, error="first"),
        CellWrite(keys[1], version, b"another", error="second"),
        CellWrite(keys[2], version, None, set_want=True),
        CellWrite(keys[3], version, None, set_want=True),
        CellWrite(keys[3], version, b"new", set_want=True),
    ]
    receipt = await engine.backend.write(table, WriteBatch(generation=table.generation, cells=cells))
    engine.catalog.marks[table.id] = receipt.mark
    await copy_tables(engine, target.engine, ["books"], ignore)
    found = await contents(target)
    assert found == await contents(source)
    assert [found[k][1][0].state for k in keys[:4]] == ["stale", "error", "empty", "new"]


async def test_a_copy_that_stopped_goes_on_unseen_till_then(
    sides: tuple[AsyncDatabase, AsyncDatabase],
) -> None:
    source, target = sides
    table = await source.table("books")

    class Stopped(Exception):
        pass

    def stop(stage: str, name: str, done: int, total: int) -> None:
        if done:
            raise Stopped

    with pytest.raises(Stopped):
        await copy_tables(source.engine, target.engine, None, stop)
    assert await target.tables() == []
    await table.insert([{"id": "late", "title": "a late one", "n": 1}])
    await table.delete(table.id == "0003")
    done = await copy_tables(source.engine, target.engine, None, ignore)
    assert (done.tables[0].status, done.tables[0].changed) == ("continued", 2)
    assert await contents(target) == await contents(source)


async def test_a_finished_copy_catches_up_but_overwrites_nothing(
    sides: tuple[AsyncDatabase, AsyncDatabase],
) -> None:
    source, target = sides
    table = await source.table("books")
    await copy_tables(source.engine, target.engine, None, ignore)
    await table.insert([{"id": "late", "title": "a late one", "n": 1}])
    await table.delete(table.id == "0003")
    done = await copy_tables(source.engine, target.engine, None, ignore)
    assert (done.tables[0].status, done.tables[0].changed) == ("caught up", 2)
    assert await contents(target) == await contents(source)
    await (await target.table("books")).insert([{"id": "own", "title": "their own"}])
    before = await contents(target)
    with pytest.raises(AlreadyExists, match="different"):
        await copy_tables(source.engine, target.engine, None, ignore)
    assert await contents(target) == before


async def test_what_cannot_be_copied_is_refused(sides: tuple[AsyncDatabase, AsyncDatabase]) -> None:
    source, target = sides
    with pytest.raises(InvalidInput, match="same database"):
        await copy_tables(source.engine, source.engine, None, ignore)
    with pytest.raises(TableNotFound):
        await copy_tables(source.engine, target.engine, ["bokos"], ignore)
    await target.create_table("books", {"title": "string"})
    with pytest.raises(AlreadyExists, match="another table"):
        await copy_tables(source.engine, target.engine, None, ignore)
