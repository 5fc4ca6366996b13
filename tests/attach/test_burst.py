"""Many rows change at once: searches go on, each true at its own moment, while the rows in memory follow."""

from __future__ import annotations

import pytest

from tests.attach.conftest import Owner, until
from vectable import AsyncDatabase

ROWS = 2_500
ITEMS = f"""
CREATE TABLE public.items (id int PRIMARY KEY, title text, n int);
INSERT INTO public.items SELECT n, 'Item ' || n, n FROM generate_series(1, {ROWS}) AS n"""


async def test_searches_do_not_wait_for_a_burst_of_changes(database: AsyncDatabase, owner: Owner) -> None:
    await owner.execute(ITEMS)
    items = await database.attach("items", embed="title")
    before = await items.similar("Item 77").limit(1).collect()
    assert (before.plan.path, before[0]["id"]) == ("flat", 77)
    # The embedded column of most rows, and another one of all: their vectors no longer hold, or still do.
    await owner.execute(
        "UPDATE public.items SET n = n + 1, title = title || CASE WHEN id > 50 THEN '!' ELSE '' END"
    )
    during = await items.similar("Item 7").limit(ROWS).collect()
    assert during.plan.path == "backend" and "rows changed" in during.plan.why
    assert during[0]["id"] == 7 and during[0].score == pytest.approx(1)
    assert all(hit["n"] == hit["id"] + 1 for hit in during)
    assert all(not hit["title"].endswith("!") or hit["id"] > 50 for hit in during)

    async def followed() -> bool:
        found = await items.similar("Item 77!").limit(1).collect()
        return bool(found.plan.path != "backend" and found[0]["id"] == 77 and found[0].score > 0.9999)

    await until(followed)
