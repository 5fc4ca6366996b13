"""The table `code_layouts` brought up to date: written and embedded is only what is not there yet."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vectable.cli.demo import corpus
from vectable.errors import AlreadyExists, ProviderError
from vectable.handles.show import milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vectable.handles import AsyncDatabase, AsyncTable

TABLE = "code_layouts"
COLUMN = "teaches_embedding"
TEMPLATE = "{title}\n{teaches}"
_A_MINUTE = 6_000
"""Texts a minute that two slow cores embed."""
_UNFINISHED = ("new", "stale", "error")


@dataclass(slots=True)
class Built:
    """What a run did. `seconds` by step: read, write, embed."""

    rows: int = 0
    written: int = 0
    deleted: int = 0
    embedded: int = 0
    model: str = ""
    states: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


async def build(
    database: AsyncDatabase, limit: int | None, say: Callable[[str], None]
) -> tuple[AsyncTable, Built]:
    """The table, every row embedded. May be interrupted anywhere: the next run goes on. Raises AlreadyExists
    when there is another table or column of that name, ProviderError when embedding fails."""
    built = Built()
    started = time.perf_counter()
    wanted = {row["id"]: row for row in corpus.rows(limit)}
    built.rows, built.seconds["read"] = len(wanted), time.perf_counter() - started
    took = milliseconds(_last(built) * 1_000)
    say(f"Read {len(wanted):,} modules, classes, functions and methods in {took}.")
    table = await _table(database)
    built.model = table.definition.vector_column(COLUMN).embedding.model  # type: ignore[union-attr]
    started = time.perf_counter()
    job = await _write(table, wanted, built, complete=limit is None)
    built.seconds["write"] = time.perf_counter() - started
    changed = [f"{n:,} {what}" for n, what in ((built.written, "written"), (built.deleted, "deleted")) if n]
    say(
        f"Table {TABLE} in {database.url}: {', '.join(changed) or 'every row is there already'}"
        + (f" ({milliseconds(_last(built) * 1_000)})." if changed else ".")
    )
    await _embed(database, table, job, built, say)
    return table, built


def _last(built: Built) -> float:
    return next(reversed(built.seconds.values()))


async def _table(database: AsyncDatabase) -> AsyncTable:
    """The table with its embedding column, there before the rows: so a row and what it wants embedded are
    written at once, and no crash can come between."""
    table = await database.create_table(TABLE, corpus.COLUMNS, if_exists="ok")
    try:
        await table.add_embedding_column(COLUMN, template=TEMPLATE, if_exists="ok")
    except AlreadyExists as error:
        raise AlreadyExists(
            f"{database.url} has a table {TABLE!r} whose {COLUMN!r} is not the demo's with this model",
            hint="give the demo a directory of its own: vectable demo --db ./vectable-demo",
        ) from error
    return table


async def _write(
    table: AsyncTable, wanted: dict[str, dict[str, Any]], built: Built, *, complete: bool
) -> str | None:
    """Writes rows that are new or changed, deletes those that are gone; the job that embeds, if any."""
    there = {row["id"]: dict(row) async for row in table.select("*").stream()}
    changed = [row for key, row in wanted.items() if there.get(key) != row]
    gone = [key for key in there if key not in wanted] if complete else []
    for start in range(0, len(gone), 1_000):
        built.deleted += await table.delete(table["id"].in_(gone[start : start + 1_000]))
    if not changed:
        return None
    result = await table.upsert(changed, wait=False)
    built.written = result.inserted + result.replaced
    return result.job


async def _embed(
    database: AsyncDatabase, table: AsyncTable, job: str | None, built: Built, say: Callable[[str], None]
) -> None:
    """Stays until every cell is ready: those of this run's rows, and those an interrupted run left."""
    before = await table.states(COLUMN)
    pending = _unfinished(before)
    if not pending:
        built.states = dict(before)
        built.embedded = before["ready"] if built.written and job else 0
        say(f"Nothing to embed: {before['ready']:,} rows are ready.")
        return
    minutes = -(-pending // _A_MINUTE)
    about = f"about {minutes} minutes" if minutes > 1 else "a minute or less"
    say(f"Embedding {pending:,} of {built.rows:,} texts with {built.model}: {about}, once …")
    started = time.perf_counter()
    if job is not None:
        await _finished(database, job)
    if _unfinished(await table.states(COLUMN)):
        refreshed = await table.refresh(COLUMN, wait=False)
        await _finished(database, refreshed.job)
    built.states = dict(await table.states(COLUMN))
    left = _unfinished(built.states)
    if left:
        raise ProviderError(f"{left:,} texts could not be embedded", hint=f"see: vectable describe {TABLE}")
    built.embedded, seconds = pending, time.perf_counter() - started
    built.seconds["embed"] = seconds
    say(f"Embedded {pending:,} texts in {seconds:.1f} s ({pending / seconds:,.0f} a second).")


def _unfinished(states: Mapping[str, int]) -> int:
    return sum(states.get(state, 0) for state in _UNFINISHED)


async def _finished(database: AsyncDatabase, job: str | None) -> None:
    if job is None:
        return
    found = await database.wait(job, "embedding")
    if found.status == "error":
        raise ProviderError(
            f"embedding stopped: {found.error}", hint="run the demo again: it goes on where it stopped"
        )
