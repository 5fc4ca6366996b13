"""Several processes with one database: no row lost or doubled, each sees the others, kill -9 harms none."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vectable.backends.sqlite import SqliteBackend
from vectable.core.predicate import TRUE
from vectable.core.schema import Table
from vectable.drivers.sqlite import SqliteDriver
from vectable.interfaces import SchemaChange
from vectable.testing.backend_suite import Subject
from vectable.testing.samples import every_type_table, vector_column

WORKER = """
import asyncio, os, sys
from vectable.backends.sqlite import SqliteBackend
from vectable.core.predicate import TRUE
from vectable.core.rows import CellWrite, Delete, Put, WriteBatch
from vectable.core.schema import Table
from vectable.drivers.sqlite import SqliteDriver
from vectable.testing.samples import text_key

directory, definition, who, rounds, log = sys.argv[1:]
table = Table.model_validate_json(definition)
version = table.column("emb").version.id
acknowledged = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

async def main():
    backend = SqliteBackend(SqliteDriver(directory)); await backend.open()

    async def changed(mark):
        async with backend.view(table) as view:
            return view.mark, [key async for keys in view.changes(mark) for key in keys]

    seen = set()
    async with backend.view(table) as view:
        mark = view.mark
        async for batch in view.scan(backend.push(table, TRUE), []):
            seen.update(batch.keys)
    for number in range(int(rounds)):
        rows = [f"{who}-{number}-{i}" for i in range(5)]
        puts = [Put(text_key(r), {"id": r, "title": who}, {version: b"w"}, guard="absent") for r in rows]
        await backend.write(table, WriteBatch(1, puts))
        cells = [CellWrite(text_key(r), version, b"w", vector=bytes(16)) for r in rows]
        assert (await backend.write(table, WriteBatch(1, cells=cells))).cells_written == 5
        await backend.write(table, WriteBatch(1, deletes=[Delete(text_key(rows[0]))]))
        os.write(acknowledged, "".join(f"{r}\\n" for r in rows[1:]).encode())
        # Everybody counts on a row that all of them change.
        while True:
            async with backend.view(table) as view:
                batch = await view.get([text_key("shared")], ["stars"])
            put = Put(text_key("shared"), {"id": "shared", "stars": batch.columns["stars"][0] + 1},
                      revision=batch.revisions[0])
            receipt = await backend.write(table, WriteBatch(1, [put]))
            if receipt.outcomes == ["replaced"]:
                break
        mark, keys = await changed(mark)
        seen.update(keys)
    print("done", flush=True)
    sys.stdin.readline()
    mark, keys = await changed(mark)
    seen.update(keys)
    async with backend.view(table) as view:
        stored = set()
        async for batch in view.scan(backend.push(table, TRUE), []):
            stored.update(batch.keys)
    print(len(stored), len(stored - seen), flush=True)
    await backend.close()

asyncio.run(main())
"""


async def created(directory: Path) -> Table:
    backend = SqliteBackend(SqliteDriver(directory))
    await backend.open()
    table = every_type_table(vector_column("emb", 4, auto_update=True))
    await backend.alter(table, SchemaChange("create_table"))
    await Subject(backend, table).put({"id": "shared", "stars": 0})
    await backend.close()
    return table


def start(directory: Path, table: Table, who: str, rounds: int, log: Path) -> subprocess.Popen[str]:
    arguments = [str(directory), table.model_dump_json(), who, str(rounds), str(log)]
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
async def test_processes_that_write_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    table = await created(tmp_path / "db")
    log = tmp_path / "log"
    workers = [start(tmp_path / "db", table, who, 15, log) for who in "abc"]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "done\n"
    # Each then follows the changes since it began, and must know every row of all of them.
    answers = [worker.communicate("go\n")[0].split() for worker in workers]
    assert answers == [["181", "0"]] * 3
    backend = SqliteBackend(SqliteDriver(tmp_path / "db"))
    await backend.open()
    subject = Subject(backend, table)
    assert await subject.ids() == {"shared", *log.read_text().splitlines()}
    assert list((await subject.get("shared", columns=["stars"])).columns["stars"]) == [45]
    assert (await subject.states(table.column("emb").version))["ready"] == 180
    await backend.close()


@pytest.mark.slow
async def test_killed_processes_leave_whole_batches_and_a_true_count(tmp_path: Path) -> None:
    table = await created(tmp_path / "db")
    log = tmp_path / "log"
    for round_ in range(3):
        workers = [start(tmp_path / "db", table, f"{round_}{who}", 10_000, log) for who in "ab"]
        size = log.stat().st_size if log.exists() else 0
        while not log.exists() or log.stat().st_size == size:
            time.sleep(0.01)
        time.sleep(0.03 * round_)
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
        for worker in workers:
            worker.communicate()
        backend = SqliteBackend(SqliteDriver(tmp_path / "db"))
        await backend.open()
        subject = Subject(backend, table)
        ids = await subject.ids()
        assert ids.issuperset(log.read_text().splitlines())
        batches: dict[str, int] = {}
        for id_ in ids - {"shared"}:
            batch = id_.rpartition("-")[0]
            batches[batch] = batches.get(batch, 0) + 1
        # A batch of five, or of four once its delete came through.
        assert set(batches.values()) <= {4, 5}
        async with backend.view(table) as view:
            assert await view.count(backend.push(table, TRUE)) == len(ids)
            states = await view.cell_states(table.column("emb").version.id)
            assert sum(states.values()) == len(ids)
        await backend.close()
