"""Searches while others write: every answer is one that was true at some moment, and committed writes are
seen."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.searching import World, opened, opened_backend, searching, small_table
from tests.engine.test_search_sizes import Truth, agrees, filled, made_rows
from vectable.core.cell import GIVEN
from vectable.core.evaluate import matches
from vectable.core.predicate import bind
from vectable.core.query import Query
from vectable.core.rows import Put, WriteBatch
from vectable.core.vectors import scores, to_bytes
from vectable.interfaces import SchemaChange
from vectable.testing.samples import clustered_vectors, text_key

ROWS = 3_000
MATRIX = clustered_vectors(ROWS + 1_000, 16, seed=12)
WHERE = {"column": "bucket", "operator": "<", "value": 500}


def consistent(world: World, result: Any, vector: Any, limit: int) -> None:
    """Hits satisfy the filter as returned, are scored by the vector returned, are distinct and in order."""
    where = bind(Query(where=WHERE).predicate, world.table)
    assert len(result.keys) == len(set(result.keys)) == limit
    for row, score in zip(result.rows, result.scores, strict=True):
        assert matches(where, row)
        assert float(scores(vector, row["emb"][None], world.version.metric)[0]) == score
    ranked = sorted(zip([-s for s in result.scores], result.keys, strict=True))
    assert [k for _, k in ranked] == result.keys


@pytest.mark.parametrize("kind", ["sqlite", "hostile", "postgres"])
async def test_hits_never_violate_their_filter_while_rows_change(
    kind: str, server: str | None, tmp_path: Path
) -> None:
    async with opened(kind, tmp_path, small_table(16), server=server) as world:
        await filled(world, MATRIX[:ROWS])
        stop = asyncio.Event()

        async def write() -> None:
            rng = np.random.default_rng(0)
            while not stop.is_set():
                at = int(rng.integers(0, ROWS - 20))
                rows = [{**row, "bucket": int(rng.integers(0, 1_000))} for row in made_rows(20, at)]
                await world.put(rows, MATRIX[rng.permutation(ROWS + 1_000)[:20]])
                await asyncio.sleep(0)

        writer = asyncio.create_task(write())
        try:
            for i in range(60):
                result = await world.search(MATRIX[i], limit=20, where=WHERE, select=("*", "emb"))
                consistent(world, result, MATRIX[i], 20)
        finally:
            stop.set()
            await writer
        if kind != "hostile":
            await world.check(MATRIX[0], limit=50, where=WHERE)


async def test_many_searches_at_once_while_a_thread_writes(tmp_path: Path) -> None:
    """Searches on several threads, refreshes, column loads and merges all at the same time."""
    async with opened("sqlite", tmp_path, small_table(16)) as world:
        await filled(world, MATRIX[:ROWS])
        loop, stop = asyncio.get_running_loop(), threading.Event()

        def write() -> None:
            at = 0
            while not stop.is_set():
                rows = made_rows(50, at % ROWS)
                puts = [
                    Put(
                        text_key(row["id"]),
                        row,
                        {world.version.id: GIVEN},
                        {world.version.id: to_bytes(MATRIX[(at + i) % len(MATRIX)])},
                    )
                    for i, row in enumerate(rows)
                ]
                batch = WriteBatch(world.table.generation, puts)
                asyncio.run_coroutine_threadsafe(world.backend.write(world.table, batch), loop).result()
                at += 50

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for turn in range(12):
                results = await asyncio.gather(
                    *(
                        world.search(MATRIX[turn * 8 + i], limit=20, where=WHERE, select=("*", "emb"))
                        for i in range(8)
                    )
                )
                for i, result in enumerate(results):
                    consistent(world, result, MATRIX[turn * 8 + i], 20)
        finally:
            stop.set()
            await asyncio.to_thread(thread.join)
        assert world.registry.background.drain()


WRITER = """
import asyncio, sys
from pathlib import Path
from tests.engine.searching import opened_backend
from tests.engine.test_search_concurrent import MATRIX
from tests.engine.test_search_sizes import made_rows
from vectable.core.cell import GIVEN
from vectable.core.rows import Put, WriteBatch
from vectable.core.schema import Table
from vectable.core.vectors import to_bytes
from vectable.testing.samples import text_key

table = Table.model_validate_json(sys.stdin.readline())
version = table.column("emb").version.id

async def main():
    async with opened_backend(sys.argv[1], Path(sys.argv[2]), sys.argv[3]) as backend:
        for line in sys.stdin:
            i = int(line)
            row = made_rows(1, i)[0]
            put = Put(text_key(row["id"]), row, {version: GIVEN}, {version: to_bytes(MATRIX[i])})
            await backend.write(table, WriteBatch(table.generation, [put]))
            print(i, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_what_another_process_commits_is_found_by_the_next_search(
    kind: str, server: str | None, tmp_path: Path
) -> None:
    async with opened(kind, tmp_path, small_table(16), server=server) as world:
        await filled(world, MATRIX[:ROWS])
        await world.search(MATRIX[0], where=WHERE)
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), kind, str(tmp_path), server or ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write(world.table.model_dump_json() + "\n")
        for i in range(ROWS, ROWS + 30):
            writer.stdin.write(f"{i}\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == f"{i}\n"
            result = await world.search(MATRIX[i], limit=1)
            assert result.keys == [text_key(f"r{i:07d}")]
            assert result.coverage[0] == i + 1
        writer.stdin.close()
        assert writer.wait(100) == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_two_searchers_with_files_follow_each_other(
    kind: str, server: str | None, tmp_path: Path
) -> None:
    """As two processes over one directory: each merges and writes files, neither spoils the other."""
    opened_twice = (opened_backend(kind, tmp_path, server) for _ in range(2))
    async with next(opened_twice) as one, next(opened_twice) as two:
        table = small_table(16)
        await one.alter(table, SchemaChange("create_table"))
        async with searching(one, table, tmp_path) as first, searching(two, table, tmp_path) as second:
            second.rows = first.rows
            matrix = clustered_vectors(6_000, 16, seed=3)
            await filled(first, matrix)
            truth = Truth(first, matrix)
            for turn in range(6):
                for world in (first, second):
                    part = slice(turn * 900, turn * 900 + 900)
                    truth.matrix = truth.matrix.copy()
                    truth.matrix[part] = matrix[::-1][part]
                    await world.put(made_rows(900, part.start), truth.matrix[part])
                    first.mark = second.mark = None
                    for reader in (first, second):
                        await agrees(reader, truth, matrix[turn], 50, "10 %")
                        reader.settle()
                        await agrees(reader, truth, matrix[turn], 50)


def test_a_program_that_searches_and_leaves_does_not_wait_for_builds(tmp_path: Path) -> None:
    """Neither does the interpreter die of a thread that is still inside the library."""
    script = """
    import asyncio, sys
    from pathlib import Path
    from tests.engine.searching import opened, small_table
    from tests.engine.test_search_sizes import filled
    from vectable.testing.samples import clustered_vectors

    async def main():
        world_of = opened("memory", Path(sys.argv[1]), small_table(64))
        world = await world_of.__aenter__()
        await filled(world, clustered_vectors(21_000, 64))
        print((await world.search(clustered_vectors(1, 64)[0], limit=1)).plan.path, flush=True)
        await asyncio.sleep(0.3)

    asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "flat\n"), done.stderr
