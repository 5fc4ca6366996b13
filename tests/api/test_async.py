"""The asynchronous handles: the same names, on the caller's own loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.api.conftest import LAYOUTS
from vectable import AsyncDatabase, connect_async
from vectable.errors import UnknownColumn, Unsupported

COLUMNS = {"title": "string", "teaches": "string", "quality_score": "int", "language": "string"}


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_whole_story(kind: str, tmp_path: Path) -> None:
    url = "memory:" if kind == "memory" else tmp_path / "db"
    async with await connect_async(url, fake_embeddings=True) as db:
        t = await db.create_table("code_layouts", COLUMNS)
        await t.insert(LAYOUTS)
        filled = await t.add_embedding_column("teaches_embedding", source="teaches")
        assert filled.states["ready"] == 4
        query = t.where(t.quality_score >= 8).similar("react hooks and state").select("title")
        hits = await query.limit(10).collect()
        assert [hit.title for hit in hits] == ["Hooks", "Borrow"]
        assert (await query.first() or {})["title"] == "Hooks"
        assert await query.count() == 2
        assert [row.title async for row in query.stream()] == ["Hooks", "Borrow"]
        assert (await query.explain()).exact
        assert await t.count() == 4
        with pytest.raises(UnknownColumn, match="did you mean"):
            t.quality_scor  # noqa: B018
        assert [table.full_name for table in await db.tables()] == ["code_layouts"]
    assert db.closed


async def test_many_at_once() -> None:
    async with await connect_async("memory:", fake_embeddings=True) as db:
        t = await db.create_table("notes", {"text": "string"})
        await t.add_embedding_column("meaning", source="text")
        await asyncio.gather(*(t.insert({"id": str(i), "text": f"note {i}"}) for i in range(20)))
        hits = await asyncio.gather(*(t.similar(f"note {i}").first() for i in range(20)))
        assert [hit and hit.id for hit in hits] == [str(i) for i in range(20)]


def test_another_loop_is_refused() -> None:
    opened: list[AsyncDatabase] = []

    async def opening() -> None:
        opened.append(await connect_async("memory:"))

    async def using() -> None:
        await opened[0].tables()

    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(opening())
        with pytest.raises(Unsupported, match="another event loop"):
            second.run(using())
        first.run(opened[0].close())


async def test_a_stream_left_early_is_closed() -> None:
    async with await connect_async("memory:") as db:
        t = await db.create_table("numbers", {"n": "int"})
        await t.insert([{"id": f"{i:05}", "n": i} for i in range(3_000)])
        async for row in t.select("n").stream():
            if row.n == 10:
                break
        assert await t.delete(None, all=True) == 3_000
