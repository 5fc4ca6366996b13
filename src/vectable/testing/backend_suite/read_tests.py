"""Reading: get, scan in any order, pages that neither repeat nor skip, columns, paths."""

from __future__ import annotations

from typing import Any

import pytest

from vectable.core.evaluate import MISSING, order_key
from vectable.core.predicate import TRUE, Clause
from vectable.core.query import OrderTerm
from vectable.interfaces import Position
from vectable.testing.backend_suite.fixtures import SuiteFixtures
from vectable.testing.backend_suite.subject import Found, Subject, same
from vectable.testing.samples import every_type_rows, text_key

ORDERS = [
    [],
    ["title"],
    ["-title"],
    ["stars"],
    ["-stars"],
    ["rating"],
    ["-rating"],
    ["ok"],
    ["-ok"],
    ["seen"],
    ["-seen"],
    ["order"],
    ["-größe"],
    ["id"],
    ["-id"],
    ["ok", "-größe", "title"],
    ["-ok", "seen", "-rating"],
    ["größe", "order", "-stars"],
]


def terms(order: list[str]) -> list[OrderTerm]:
    return [OrderTerm.parse(text) for text in order]


def in_order(rows: list[dict[str, Any]], order: list[str]) -> list[str]:
    """The ids in the order the core defines."""
    wanted = terms(order)
    return [
        row["id"]
        for row in sorted(
            rows, key=lambda row: order_key([row[t.column] for t in wanted], wanted, text_key(row["id"]))
        )
    ]


class ReadTests(SuiteFixtures):
    async def test_get_gives_what_exists_in_the_order_asked(self, subject: Subject) -> None:
        await subject.put(*({"id": i, "stars": n} for n, i in enumerate("abcd")))
        found = await subject.get("d", "missing", "a", "c", columns=["stars", "id"])
        assert list(found.keys) == [text_key(i) for i in "dac"]
        assert {n: list(v) for n, v in found.columns.items()} == {"stars": [3, 0, 2], "id": ["d", "a", "c"]}
        assert len(found.revisions) == 3
        assert len(await subject.get()) == 0
        assert len(await subject.get("missing", columns=["id"])) == 0

    async def test_columns_may_be_none_or_any(self, subject: Subject) -> None:
        await subject.put({"id": "a"}, {"id": "b"})
        (batch,) = [b for b in await subject.scan(columns=[]) if len(b)]
        assert (list(batch.keys), dict(batch.columns)) == ([text_key("a"), text_key("b")], {})
        assert list(batch.rows()) == [{}, {}]

    async def test_paths_into_json(self, subject: Subject) -> None:
        meta: dict[str, Any] = {"stars": 1, "tags": ["x", {"é": None}], 'odd "key".': True, "null": None}
        await subject.put({"id": "a", "meta": meta}, {"id": "b", "meta": None}, {"id": "c", "meta": [7]})
        expected: dict[str, list[Any]] = {
            "meta.stars": [1, MISSING, MISSING],
            "meta.tags[0]": ["x", MISSING, MISSING],
            "meta.tags[1]": [{"é": None}, MISSING, MISSING],
            "meta.tags[1].é": [None, MISSING, MISSING],
            "meta.tags[9]": [MISSING, MISSING, MISSING],
            'meta["odd \\"key\\"."]': [True, MISSING, MISSING],
            "meta.null": [None, MISSING, MISSING],
            "meta[0]": [MISSING, MISSING, 7],
            "meta": [meta, None, [7]],
        }
        found = await subject.rows(columns=list(expected))
        for name, values in expected.items():
            got = [row[name] for _, row in found]
            assert all(map(same, got, values)), (name, got)

    @pytest.mark.parametrize("order", ORDERS, ids=lambda order: ",".join(order) or "key")
    async def test_scans_are_in_order(self, subject: Subject, order: list[str]) -> None:
        rows = every_type_rows(subject.table)
        await subject.put(*rows)
        found = await subject.rows(columns=["id"], order=terms(order))
        assert [row["id"] for _, row in found] == in_order(rows, order)

    @pytest.mark.parametrize("order", ORDERS, ids=lambda order: ",".join(order) or "key")
    async def test_a_scan_goes_on_after_any_row(self, subject: Subject, order: list[str]) -> None:
        rows = every_type_rows(subject.table, 40)
        await subject.put(*rows)
        expected = in_order(rows, order)
        names = [term.column for term in terms(order)]
        whole = await subject.rows(columns=[*names, "id"], order=terms(order))
        for at, (key, row) in enumerate(whole):
            after = Position(tuple(row[name] for name in names), key)
            rest = await subject.rows(columns=["id"], order=terms(order), after=after)
            assert [r["id"] for _, r in rest] == expected[at + 1 :]

    @pytest.mark.parametrize("order", [[], ["-ok"], ["größe", "-seen"]], ids=",".join)
    @pytest.mark.parametrize("size", [1, 3, 7])
    async def test_pages_neither_repeat_nor_skip(self, subject: Subject, order: list[str], size: int) -> None:
        rows = every_type_rows(subject.table, 25)
        await subject.put(*rows)
        names = [term.column for term in terms(order)]
        seen: Found = []
        after: Position | None = None
        while page := await subject.rows(TRUE, [*names, "id"], terms(order), after, size):
            assert len(page) <= size
            seen += page
            key, row = page[-1]
            after = Position(tuple(row[name] for name in names), key)
        assert [row["id"] for _, row in seen] == in_order(rows, order)

    async def test_filtered_pages_neither_repeat_nor_skip(self, subject: Subject) -> None:
        rows = every_type_rows(subject.table, 50)
        await subject.put(*rows)
        where = Clause(column="größe", operator=">=", value=2)
        expected = [r for r in in_order(rows, ["-ok", "stars"]) if _size(rows, r) >= 2]
        seen: list[str] = []
        after: Position | None = None
        order = terms(["-ok", "stars"])
        while page := await subject.rows(where, ["ok", "stars", "id"], order, after, 4):
            seen += [row["id"] for _, row in page]
            after = Position((page[-1][1]["ok"], page[-1][1]["stars"]), page[-1][0])
        assert seen == expected

    async def test_states_and_paths_order_too(self, subject: Subject) -> None:
        version = subject.table.column("auto").version
        await subject.put({"id": "a"}, {"id": "b"}, wants={version.id: b"1"})
        await subject.put({"id": "c"})
        found = await subject.rows(columns=["id"], order=terms(["auto.state", "-id"]))
        assert [row["id"] for _, row in found] == ["c", "b", "a"]

    async def test_limits(self, subject: Subject) -> None:
        await subject.put(*({"id": i} for i in "abcde"))
        for limit in range(7):
            batches = await subject.scan(columns=["id"], limit=limit)
            assert [i for b in batches for i in b.columns["id"]] == list("abcde")[:limit]

    async def test_long_scans_come_in_batches(self, subject: Subject) -> None:
        await subject.put(*({"id": f"{i:05d}", "größe": i % 7} for i in range(2_300)))
        for order in ([], ["-größe"]):
            batches = await subject.scan(columns=["id", "größe"], order=terms(order))
            assert max(len(b) for b in batches) <= 1_000
            ids = [i for b in batches for i in b.columns["id"]]
            assert len(ids) == len(set(ids)) == 2_300
            sizes = [s for b in batches for s in b.columns["größe"]]
            assert sizes == (sorted(sizes, reverse=True) if order else sizes)
        limited = await subject.scan(columns=["id"], limit=1_500)
        assert sum(len(b) for b in limited) == 1_500

    async def test_an_empty_table(self, subject: Subject) -> None:
        assert await subject.rows(order=terms(["-stars"])) == []
        async with subject.backend.view(subject.table) as view:
            assert await view.count(subject.backend.push(subject.table, TRUE)) == 0


def _size(rows: list[dict[str, Any]], row_id: str) -> int:
    return next(row["größe"] or 0 for row in rows if row["id"] == row_id)
