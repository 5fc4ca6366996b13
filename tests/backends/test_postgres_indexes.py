"""Indexes over stored columns in PostgreSQL: they serve filters, and change no answer."""

from __future__ import annotations

import asyncpg
import pytest

import vectable
from vectable.drivers.postgres import Address
from vectable.errors import InvalidInput, Unsupported

LONG = "".join(chr(33 + i * i % 90) for i in range(20_000))


async def test_a_btree_on_text_serves_comparisons_and_holds_any_length(postgres_url: str) -> None:
    async with await vectable.connect_async(postgres_url) as db:
        table = await db.create_table("t", {"title": "string"})
        titles = [None, "", "É", "e", "Z", LONG, LONG + "a", LONG[:300], *(f"{i:05d}" for i in range(3_000))]
        await table.insert([{"id": str(i), "title": t} for i, t in enumerate(titles)])
        filters = [
            {"column": "title", "operator": o, "value": v}
            for o in ("=", "<", "<=", ">", ">=", "!=")
            for v in ("", "Z", "00042", LONG, LONG + "a", LONG[:300])
        ]
        filters += [{"column": "title", "operator": "in", "value": ["e", LONG, "00017"]}]
        before = [await table.where(f).count() for f in filters]
        await table.create_index("title", "btree")
        await table.insert([{"id": "new", "title": LONG + "b"}])
        await table.delete({"column": "id", "operator": "=", "value": "new"})
        assert [await table.where(f).count() for f in filters] == before
        plain = await asyncpg.connect(**Address.parse(postgres_url).arguments)
        try:
            await plain.execute("ANALYZE t")
            pushed = db.engine.backend.push(table.definition, table.where(filters[2]).request.predicate)
            layout = db.engine.backend._places.layouts.of(
                table.definition, await db.engine.backend._places.of(table.definition)
            )
            sql = f"EXPLAIN SELECT t.key {layout.joined(())} WHERE {pushed.native.text}"
            plan = "\n".join(row[0] for row in await plain.fetch(sql, *pushed.native.params))
        finally:
            await plain.close()
        assert "i_" in plan
        assert "Index" in plan


async def test_gin_is_for_json_and_lists(postgres_url: str) -> None:
    async with await vectable.connect_async(postgres_url) as db:
        table = await db.create_table("t", {"tags": "string[]", "meta": "json", "n": "int"})
        await table.insert([{"tags": [f"t{i % 7}"], "meta": {"a": i % 5}, "n": i} for i in range(50)])
        filters = [
            {"column": "tags", "operator": "contains", "value": "t3"},
            {"column": "meta.a", "operator": "=", "value": 2},
        ]
        before = [await table.where(f).count() for f in filters]
        for column in ("tags", "meta"):
            made = await table.create_index(column, "gin")
            assert (made["type"], made["status"]) == ("gin", "ready")
            with pytest.raises(InvalidInput, match="cannot have a btree") as caught:
                await table.create_index(column, "btree")
            assert "gin" in caught.value.hint
        with pytest.raises(InvalidInput, match="cannot have a gin"):
            await table.create_index("n", "gin")
        assert [await table.where(f).count() for f in filters] == before == [7, 10]
    async with await vectable.connect_async("memory:") as db:
        table = await db.create_table("t", {"tags": "string[]"})
        with pytest.raises(Unsupported):
            await table.create_index("tags", "gin")
