"""Vector indexes over the embedding columns of attached tables: built, trusted, and gone without a trace."""

from __future__ import annotations

import pytest

from tests.attach.conftest import Owner, dump, until
from vectable import AsyncTable, connect_async
from vectable.errors import Unsupported

ROWS = 6_000
ITEMS = f"""
CREATE TABLE public.items (id int PRIMARY KEY, title text, n int);
INSERT INTO public.items SELECT n, 'Item ' || n, n FROM generate_series(1, {ROWS}) AS n"""


async def found(items: AsyncTable, text: str, id: int) -> None:
    async def check() -> bool:
        hits = await items.similar(text).limit(1).collect()
        return bool(hits[0]["id"] == id and hits[0].score == pytest.approx(1))

    await until(check)


async def test_an_index_is_built_searched_kept_true_and_leaves_no_trace(
    owner: Owner, postgres_url: str
) -> None:
    await owner.execute(ITEMS)
    before = dump(postgres_url)
    async with await connect_async(postgres_url, fake_embeddings=True, resident_bytes=0) as database:
        items = await database.attach("items", embed="title")
        made = await items.create_index("title_embedding", "hnsw")
        assert (made["method"], made["status"], made["rows_covered"]) == ("hnsw", "ready", ROWS)
        assert made["recall"] is not None
        hits = await items.similar("Item 77").limit(5).collect()
        assert hits.plan.path == "backend-index" and hits.plan.index == "hnsw"
        exact = await items.similar("Item 77", exact=True).limit(5).collect()
        assert exact.plan.path == "backend" and hits[0]["id"] == exact[0]["id"] == 77
        few = await items.where(items.n <= 40).similar("Item 77").limit(40).collect()
        assert sorted(hit["id"] for hit in few) == list(range(1, 41))
        # What others change is true at once, though the index nominates the old vector until it is noticed.
        await owner.execute("UPDATE public.items SET title = 'Sailing alone' WHERE id = 77")
        assert (await items.similar("Item 77").limit(1).collect())[0]["id"] != 77
        await found(items, "Sailing alone", 77)
        await owner.execute("DELETE FROM public.items WHERE id = 77")
        assert (await items.similar("Sailing alone").limit(1).collect())[0]["id"] != 77
        with pytest.raises(Unsupported, match="its owner may create an index"):
            await items.create_index("n", "btree")
        await database.detach("items")
    assert dump(postgres_url) == before


async def test_an_index_may_be_dropped_and_detaching_stops_a_build(owner: Owner, postgres_url: str) -> None:
    await owner.execute(f"{ITEMS}; DELETE FROM public.items WHERE id > 500")
    async with await connect_async(postgres_url, fake_embeddings=True) as database:
        items = await database.attach("items", embed="title")
        before = dump(postgres_url)
        made = await items.create_index("title_embedding", "hnsw", m=8, ef_construction=32)
        await items.drop_index(made["name"])
        assert dump(postgres_url) == before
        await items.create_index("title_embedding", "hnsw", m=64, ef_construction=1_000, wait=False)
        await database.detach("items")
        assert await database.tables() == []
        assert await owner.fetchval("SELECT count(*) FROM pg_class WHERE relname LIKE 'v\\_%'") == 0
