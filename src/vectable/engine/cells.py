"""Filling cells: what a row wants rendered, embedded, and written only where the row still wants it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vectable.core.cell import Cell
from vectable.core.mark import Mark
from vectable.core.recipe import Content, content_key, render, template_columns
from vectable.core.rows import CellWrite, RecordBatch, WriteBatch
from vectable.core.schema import Column, Embedding, Table, Version
from vectable.core.values import check_default
from vectable.engine.embed import Embedder, Failure
from vectable.engine.embed.passes import Step
from vectable.errors import ModelMismatch
from vectable.interfaces import Backend

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Target:
    """An embedding column of a table, at the version to fill."""

    table: Table
    column: Column
    version: Version

    @property
    def embedding(self) -> Embedding:
        """How the column is computed."""
        if self.column.embedding is None:
            raise TypeError(f"column {self.column.name} is not computed")
        return self.column.embedding

    @property
    def columns(self) -> list[str]:
        """What must be read of a row to render its content."""
        return template_columns(self.embedding.template)


def targets(table: Table, *, automatic: bool) -> list[Target]:
    """Every version of every embedding column; `automatic`: only of those kept true without being asked."""
    return [
        Target(table, column, version)
        for column, version in table.versions
        if column.embedding is not None and (column.embedding.auto_update or not automatic)
    ]


def contents(target: Target, batch: RecordBatch) -> list[Content | None]:
    """What each row's cell should be made from."""
    defaults = {c.name: check_default(c) for c in target.table.stored_columns if c.default is not None}
    return [render(target.embedding.template, row, defaults) for row in batch.rows()]


def want_of(target: Target, content: Content | None) -> bytes | None:
    """The content key a cell with that content wants."""
    if content is None:
        return None
    return content_key(target.version.identity or "", target.version.prompt, content)


async def check_identity(embedder: Embedder, target: Target) -> None:
    """Raises ModelMismatch when the model at hand is not the one the version was made by."""
    provider = await embedder.models.provider(target.embedding.model)
    if str(provider.model) != target.version.identity:
        raise ModelMismatch(
            f"column {target.column.name!r} was embedded by {target.version.identity}, "
            f"but {target.embedding.model!r} is {provider.model} here",
            hint="use the same model, runtime and precision; or drop the column and add it again",
        )


async def fill(
    backend: Backend,
    embedder: Embedder,
    marks: dict[str, Mark],
    target: Target,
    batch: RecordBatch,
    states: Collection[str],
    *,
    read_cache: bool = True,
    step: Step | None = None,
) -> tuple[int, int]:
    """Embeds the batch's cells that are in one of `states`, outside any lock, and writes them where the row
    still wants the same; notes the mark in `marks`. (vectors written, errors written). Raises EndpointError
    and ProviderError, after the rest is written, when the model or its endpoint failed some of them: those
    stay pending."""
    cells = batch.cells[target.version.id]
    rows = [i for i, cell in enumerate(cells) if cell.state in states]

    async def embed(rows: Sequence[int]) -> tuple[int, int]:
        return await _fill_rows(backend, embedder, marks, target, batch, rows, read_cache, step)

    if target.embedding.cache or not embedder.crowded:
        return await embed(rows)
    # Nobody shares these vectors, so whoever else is at work on a cell is waited for.
    done = failed = 0
    left = {_claim_of(target, batch, i): i for i in rows}
    while left:
        async with embedder.alone(list(left)) as granted:
            wanted = await _still_wanted(backend, target, batch, [left[claim] for claim in granted], states)
            more = await embed(wanted)
        done, failed = done + more[0], failed + more[1]
        left = {claim: i for claim, i in left.items() if claim not in granted}
        if left and not granted:
            await asyncio.sleep(_POLL_S)
            wanted = await _still_wanted(backend, target, batch, list(left.values()), states)
            left = {claim: i for claim, i in left.items() if i in wanted}
    return done, failed


def _claim_of(target: Target, batch: RecordBatch, i: int) -> bytes:
    want = batch.cells[target.version.id][i].want or b""
    parts = (target.version.id.encode(), batch.keys[i], want)
    return hashlib.sha256(b"".join(len(part).to_bytes(4) + part for part in parts)).digest()


async def _still_wanted(
    backend: Backend, target: Target, batch: RecordBatch, rows: Sequence[int], states: Collection[str]
) -> list[int]:
    """Those of `rows` whose cells are now as they were in the batch, as far as what they want goes."""
    if not rows:
        return []
    version = target.version.id
    async with backend.view(target.table) as view:
        found = await view.get([batch.keys[i] for i in rows], [], [version])
    now = dict(zip(found.keys, found.cells[version], strict=True))
    before = batch.cells[version]
    return [
        i
        for i in rows
        if (cell := now.get(batch.keys[i])) and cell.state in states and cell.want == before[i].want
    ]


async def _fill_rows(
    backend: Backend,
    embedder: Embedder,
    marks: dict[str, Mark],
    target: Target,
    batch: RecordBatch,
    rows: Sequence[int],
    read_cache: bool,
    step: Step | None,
) -> tuple[int, int]:
    cells = batch.cells[target.version.id]
    made = contents(target, batch)
    todo = [(i, content) for i in rows if (content := made[i]) is not None]
    results = await embedder.encode_each(
        [content for _, content in todo],
        target.embedding.model,
        normalized=target.version.normalized,
        use_cache=target.embedding.cache,
        read_cache=read_cache,
        step=step,
    )
    # What the model or its endpoint failed is wanted still: the cell stays pending, and is nobody's error.
    postponed = [result for result in results if isinstance(result, Failure) and result.postponed]
    writes = [
        _cell_write(target, batch, i, cells[i], content, result)
        for (i, content), result in zip(todo, results, strict=True)
        if not (isinstance(result, Failure) and result.postponed)
    ]
    # A row whose content vanished while its cell still wanted one: the cell wants nothing now.
    writes += [
        CellWrite(batch.keys[i], target.version.id, None, set_want=True, revision=batch.revisions[i])
        for i in rows
        if made[i] is None and cells[i].want is not None
    ]
    if writes:
        write = WriteBatch(generation=target.table.generation, cells=writes)
        marks[target.table.id] = (await backend.write(target.table, write)).mark
    if postponed:
        raise postponed[0].error
    errors = sum(isinstance(r, Failure) for r in results)
    return len(results) - errors, errors


def _cell_write(
    target: Target, batch: RecordBatch, i: int, cell: Cell, content: Content, result: bytes | Failure
) -> CellWrite:
    want = want_of(target, content)
    vector = None if isinstance(result, Failure) else result
    error = str(result.error) if isinstance(result, Failure) else None
    if want == cell.want:
        return CellWrite(batch.keys[i], target.version.id, want, vector, error)
    return CellWrite(
        batch.keys[i], target.version.id, want, vector, error, set_want=True, revision=batch.revisions[i]
    )


def missing_wants(
    target: Target, batch: RecordBatch, known: dict[bytes, bytes], wants: Sequence[bytes | None]
) -> list[CellWrite]:
    """Wants for rows that were there before the column was; with the vector where it is known already."""
    return [
        CellWrite(
            batch.keys[i],
            target.version.id,
            want,
            known.get(want),
            set_want=True,
            revision=batch.revisions[i],
        )
        for i, (cell, want) in enumerate(zip(batch.cells[target.version.id], wants, strict=True))
        if want is not None and cell.want != want
    ]
