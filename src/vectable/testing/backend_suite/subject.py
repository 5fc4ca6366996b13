"""A backend under test with one table, used as the engine uses it: marks handed on, residuals checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vectable.core.cell import Cell
from vectable.core.evaluate import matches
from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.predicate import TRUE, Predicate, columns_of, frozen_value
from vectable.core.query import OrderTerm
from vectable.core.rows import CellWrite, Delete, Put, Receipt, RecordBatch, WriteBatch
from vectable.core.schema import Table, Version
from vectable.core.vectors import Vector
from vectable.engine.search.direct import direct_reader
from vectable.interfaces import Backend, Position, Pushed, SchemaChange
from vectable.testing.samples import text_key

Found = list[tuple[KeyBytes, dict[str, Any]]]


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same to a filter, and of the same Python type at the top."""
    return type(left) is type(right) and bool(frozen_value(left) == frozen_value(right))


def put(row: Mapping[str, Any], **options: Any) -> Put:
    """A put of a row whose key is its `id`."""
    return Put(text_key(row["id"]), row, **options)


@dataclass(slots=True)
class Subject:
    """`backend` with `table`; `mark` is of the last write."""

    backend: Backend
    table: Table
    mark: Mark | None = None

    @classmethod
    async def create(cls, backend: Backend, table: Table) -> Subject:
        await backend.alter(table, SchemaChange("create_table"))
        return cls(backend, table)

    async def alter(self, table: Table, change: SchemaChange) -> None:
        """Makes `table`, with the next generation, the current definition."""
        table = table.model_copy(update={"generation": self.table.generation + 1})
        await self.backend.alter(table, change)
        self.table = table

    async def write(
        self,
        puts: Sequence[Put] = (),
        deletes: Sequence[Delete] = (),
        cells: Sequence[CellWrite] = (),
        receipts: Mapping[str, bytes] | None = None,
    ) -> Receipt:
        batch = WriteBatch(self.table.generation, puts, deletes, cells, receipts or {})
        receipt = await self.backend.write(self.table, batch)
        self.mark = receipt.mark
        return receipt

    async def put(self, *rows: Mapping[str, Any], **options: Any) -> Receipt:
        """Puts rows whose key is their `id`, all with the same options."""
        return await self.write([put(row, **options) for row in rows])

    async def cell(self, row: str, version: Version, want: bytes | None, **options: Any) -> bool:
        """One cell write; whether it landed."""
        write = CellWrite(text_key(row), version.id, want, **options)
        return (await self.write(cells=[write])).cells_written == 1

    async def scan(
        self,
        where: Predicate = TRUE,
        columns: Sequence[str] | None = None,
        order: Sequence[OrderTerm] = (),
        after: Position | None = None,
        limit: int | None = None,
        versions: Sequence[str] = (),
    ) -> list[RecordBatch]:
        """The batches of one scan, as they come; `limit` only without a residual. What the backend reads
        without a view must be the same."""
        names = [c.name for c in self.table.stored_columns] if columns is None else columns
        async with self.backend.view(self.table, self.mark) as view:
            pushed = self.backend.push(self.table, where)
            found = [b async for b in view.scan(pushed, names, versions, order, after, limit)]
        await self._check_direct(pushed, found, names, versions, order, after, limit)
        return found

    async def _check_direct(
        self,
        pushed: Pushed,
        found: Sequence[RecordBatch],
        columns: Sequence[str],
        versions: Sequence[str],
        order: Sequence[OrderTerm],
        after: Position | None,
        limit: int | None,
    ) -> None:
        backend = direct_reader(self.backend)
        if backend is None:
            return
        most = 1_000 if limit is None else limit
        page = await backend.page(self.table, pushed, columns, versions, order, after, most)
        if page is not None:
            assert list(page.keys) == [key for batch in found for key in batch.keys][:most]
            assert list(page.rows()) == [row for batch in found for row in batch.rows()][:most]
            for version in versions:
                cells = [cell for batch in found for cell in batch.cells[version]]
                assert list(page.cells[version]) == cells[:most]
        if limit is None and after is None:
            assert await backend.count(self.table, pushed) in (None, sum(map(len, found)))

    async def rows(
        self,
        where: Predicate = TRUE,
        columns: Sequence[str] | None = None,
        order: Sequence[OrderTerm] = (),
        after: Position | None = None,
        limit: int | None = None,
    ) -> Found:
        """The rows for which `where` holds, in order: what is pushed, less what the residual takes away."""
        residual = self.backend.push(self.table, where).residual
        names = [c.name for c in self.table.stored_columns] if columns is None else list(columns)
        checked = [] if residual is None else sorted(columns_of(residual))
        asked = list(dict.fromkeys([*names, *checked]))
        batches = await self.scan(where, asked, order, after, None if residual is not None else limit)
        found: Found = []
        for batch in batches:
            assert set(batch.columns) == set(asked)
            for key, row in zip(batch.keys, batch.rows(), strict=True):
                if residual is None or matches(residual, row):
                    found.append((key, {name: row[name] for name in names}))
        return found[:limit]

    async def ids(self, where: Predicate = TRUE) -> set[str]:
        """The `id`s of the rows for which `where` holds."""
        return {row["id"] for _, row in await self.rows(where, ["id"])}

    async def get(self, *ids: str, columns: Sequence[str] = (), versions: Sequence[str] = ()) -> RecordBatch:
        """The rows of these `id`s."""
        async with self.backend.view(self.table, self.mark) as view:
            return await view.get([text_key(i) for i in ids], columns, versions)

    async def cells(self, version: Version, *ids: str) -> list[Cell]:
        """The cells of these `id`s, all of which exist."""
        batch = await self.get(*ids, versions=[version.id])
        assert list(batch.keys) == [text_key(i) for i in ids]
        return list(batch.cells[version.id])

    async def revision(self, row: str) -> Any:
        """The revision of a row that exists."""
        return (await self.get(row)).revisions[0]

    async def position(self) -> Mark:
        """A mark of now, from a view that sees the last write."""
        async with self.backend.view(self.table, self.mark) as view:
            return view.mark

    async def changes(self, since: Mark) -> set[KeyBytes]:
        """The keys changed since a mark, up to the last write."""
        async with self.backend.view(self.table, self.mark) as view:
            return {key async for keys in view.changes(since) for key in keys}

    async def states(self, version: Version) -> dict[str, int]:
        """How many cells are in each state."""
        async with self.backend.view(self.table, self.mark) as view:
            return await view.cell_states(version.id)

    async def nearest(
        self, version: Version, vector: Vector, k: int, where: Predicate = TRUE
    ) -> tuple[list[KeyBytes], bool]:
        """(candidates, whether nothing was left out of consideration)."""
        async with self.backend.view(self.table, self.mark) as view:
            found = await view.nearest(version, vector, k, self.backend.push(self.table, where))
            return list(found.keys), found.complete
