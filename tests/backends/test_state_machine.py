"""Random writes, crashes and restarts against a plain dictionary: nothing acknowledged is lost, nothing half
done is visible beyond what a backend's capabilities say, and changes are never missed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.backends.row_model import ModelCell, Rows, Step
from vectable.backends.memory import MemoryBackend, MemoryStorage
from vectable.core.mark import Mark
from vectable.core.rows import CellWrite, Delete, Put, WriteBatch
from vectable.core.schema import Table
from vectable.errors import KeyExists, MarkExpired, OutcomeUnknown
from vectable.interfaces import Backend
from vectable.testing.backend_suite import Subject
from vectable.testing.hostile_backend import HostileBackend, HostileStorage
from vectable.testing.samples import every_type_table, text_key, vector_column

KEYS = ("a", "b", "é'", "%")
WANTS = (None, b"w1", b"w2")
VECTORS = (b"\x00\x00\x80?" * 4, b"\x00\x00\x00@" * 4)


puts = st.fixed_dictionaries(
    {
        "key": st.sampled_from(KEYS),
        "stars": st.integers(0, 9),
        "wants": st.lists(st.sampled_from(WANTS), max_size=2),
        "vectors": st.integers(0, 2),
        "guard": st.sampled_from(["any", "any", "any", "any", "skip", "absent"]),
        "guarded": st.booleans(),
    }
)
cell_writes = st.fixed_dictionaries(
    {
        "key": st.sampled_from(KEYS),
        "version": st.integers(0, 1),
        "want": st.sampled_from(WANTS),
        "vector": st.one_of(st.none(), st.sampled_from(VECTORS)),
        "error": st.sampled_from([None, None, "broke"]),
        "set_want": st.booleans(),
        "clear": st.sampled_from([False, False, True]),
        "guarded": st.booleans(),
    }
)


class Machine(RuleBasedStateMachine):
    """Subclasses say how a backend is made, and how it dies in the middle of a write."""

    atomic: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.rows: Rows = {}
        self.serial = 0
        self.revisions: dict[str, tuple[Any, int]] = {}
        self.touched: set[str] = set()
        self.receipts = 0
        self.maintained = False

    # -- the backend -------------------------------------------------------------------------------------

    async def first(self) -> Backend:
        raise NotImplementedError

    async def again(self) -> Backend:
        """A new backend over what the last one left."""
        raise NotImplementedError

    async def doomed(self, write: Callable[[], Any], point: int) -> bool:
        """Starts a write and dies about `point` documents into it; whether it was acknowledged before."""
        raise NotImplementedError

    # -- rules -------------------------------------------------------------------------------------------

    @initialize()
    def start(self) -> None:
        table = every_type_table(
            vector_column("emb", 4, auto_update=True), vector_column("more", 4, auto_update=False)
        )
        self.subject = self.run(self._create(table))
        self.versions = [version.id for _, version in table.versions]
        self.since: Mark = self.run(self.subject.position())

    async def _create(self, table: Table) -> Subject:
        return await Subject.create(await self.first(), table)

    @rule(
        puts=st.lists(puts, max_size=3, unique_by=lambda p: p["key"]),
        deletes=st.lists(st.sampled_from(KEYS), max_size=2),
        cells=st.lists(cell_writes, max_size=3),
        crash=st.sampled_from([None, None, None, None, 0, 1, 2, 4, 6]),
    )
    def write(
        self, puts: list[dict[str, Any]], deletes: list[str], cells: list[dict[str, Any]], crash: int | None
    ) -> None:
        steps = [self._put(p) for p in puts]
        steps += [Step(Delete(text_key(key)), key) for key in deletes]
        steps += [self._cell_write(c) for c in cells]
        self.run(self._write(steps, crash))

    @rule(rival=puts, mine=puts)
    def race(self, rival: dict[str, Any], mine: dict[str, Any]) -> None:
        """Two who read the same revision: the second to write must not overwrite the first."""
        self.note_revisions()
        for write in ({**rival, "guard": "any"}, {**mine, "guarded": True, "key": rival["key"]}):
            self.run(self._write([self._put(write)], None))

    @rule()
    def note_revisions(self) -> None:
        for key, row in self.rows.items():
            self.revisions[key] = (self.run(self.subject.revision(key)), row.serial)

    @rule()
    def follow_changes(self) -> None:
        try:
            told = self.run(self.subject.changes(self.since))
        except MarkExpired:
            assert self.maintained, "nothing was forgotten, yet the mark is expired"
        else:
            assert told >= {text_key(key) for key in self.touched}
        self.since, self.touched, self.maintained = self.run(self.subject.position()), set(), False

    @rule()
    def keep_house(self) -> None:
        self.run(self.subject.backend.maintain())
        self.maintained = True

    @rule()
    def restart(self) -> None:
        self.run(self._reopen())

    # -- what must hold ----------------------------------------------------------------------------------

    @invariant()
    def the_backend_is_the_model(self) -> None:
        if hasattr(self, "subject"):
            assert self.run(self._observed()) == self._expected(self.rows)

    def teardown(self) -> None:
        if hasattr(self, "subject"):
            self.run(self.subject.backend.close())
        self.runner.close()

    # -- how ---------------------------------------------------------------------------------------------

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def _put(self, data: dict[str, Any]) -> Step:
        self.serial += 1
        wants = dict(zip(self.versions, data["wants"], strict=False))
        vectors = dict(list(zip(wants, VECTORS, strict=False))[: data["vectors"]])
        key = data["key"]
        revision, expects = self.revisions.get(key, (None, None)) if data["guarded"] else (None, None)
        guard = "any" if expects is not None else data["guard"]
        request = Put(
            text_key(key), {"id": key, "stars": data["stars"]}, wants, vectors, guard=guard, revision=revision
        )
        return Step(request, key, data["stars"], self.serial, expects)

    def _cell_write(self, data: dict[str, Any]) -> Step:
        key = data["key"]
        revision, expects = self.revisions.get(key, (None, None)) if data["guarded"] else (None, None)
        options = {name: data[name] for name in ("vector", "error", "set_want", "clear")}
        version = self.versions[data["version"]]
        return Step(
            CellWrite(text_key(key), version, data["want"], revision=revision, **options),
            key,
            expects=expects,
        )

    async def _write(self, steps: Sequence[Step], crash: int | None) -> None:
        self.receipts += 1
        receipt = f"receipt-{self.receipts}"
        batch = WriteBatch(
            self.subject.table.generation,
            [s.request for s in steps if isinstance(s.request, Put)],
            [s.request for s in steps if isinstance(s.request, Delete)],
            [s.request for s in steps if isinstance(s.request, CellWrite)],
            {receipt: b"done"},
        )
        refused = any(
            isinstance(s.request, Put) and s.request.guard == "absent" and s.key in self.rows for s in steps
        )
        if refused:
            with pytest.raises(KeyExists):
                await self.subject.backend.write(self.subject.table, batch)
            assert await self.subject.backend.receipt(self.subject.table, receipt) is None
        elif crash is None:
            done = await self.subject.backend.write(self.subject.table, batch)
            self.subject.mark = done.mark
            self._adopt(steps)
        else:
            await self._crash(steps, batch, receipt, crash)

    async def _crash(self, steps: Sequence[Step], batch: WriteBatch, receipt: str, point: int) -> None:
        acknowledged = await self.doomed(lambda: self.subject.backend.write(self.subject.table, batch), point)
        await self._reopen()
        observed = await self._observed()
        answered = await self.subject.backend.receipt(self.subject.table, receipt) is not None
        lengths = [0, len(steps)] if self.atomic else range(len(steps) + 1)
        if acknowledged or answered:
            lengths = [len(steps)]
        landed = [n for n in lengths if self._expected(self._after(steps[:n])) == observed]
        assert landed, "what is there is no state the batch can have left"
        self._adopt(steps[: landed[-1]])
        # States can look the same and differ in which put made a row, hence in its revision.
        for step in steps:
            self.revisions.pop(step.key, None)

    async def _reopen(self) -> None:
        self.subject.backend = await self.again()
        # A write of our own afterwards: its mark is past whatever a crash left behind.
        receipt = await self.subject.backend.write(
            self.subject.table, WriteBatch(self.subject.table.generation)
        )
        self.subject.mark = receipt.mark

    def _after(self, steps: Sequence[Step]) -> Rows:
        rows = self.rows
        for step in steps:
            rows = step.apply(rows)
        return rows

    def _adopt(self, steps: Sequence[Step]) -> None:
        after = self._after(steps)
        self.touched |= {k for k in {*self.rows, *after} if self.rows.get(k) != after.get(k)}
        self.rows = after

    def _expected(self, rows: Rows) -> dict[bytes, Any]:
        return {
            text_key(key): (row.stars, [row.cells.get(v, ModelCell()) for v in self.versions])
            for key, row in rows.items()
        }

    async def _observed(self) -> dict[bytes, Any]:
        found: dict[bytes, Any] = {}
        for batch in await self.subject.scan(columns=["stars"], versions=self.versions):
            for at, key in enumerate(batch.keys):
                cells = [batch.cells[v][at] for v in self.versions]
                told = [ModelCell(c.want, c.have, c.vector, c.error, c.attempts) for c in cells]
                found[key] = (batch.columns["stars"][at], told)
        return found


class MemoryMachine(Machine):
    async def first(self) -> Backend:
        self.storage = MemoryStorage()
        return MemoryBackend(self.storage, tombstones=1)

    async def again(self) -> Backend:
        return MemoryBackend(self.storage, tombstones=1)

    async def doomed(self, write: Callable[[], Any], point: int) -> bool:
        return await cancelled(write, point)


class HostileMachine(Machine):
    atomic = False

    async def first(self) -> Backend:
        self.storage = HostileStorage()
        return HostileBackend(self.storage)

    async def again(self) -> Backend:
        return HostileBackend(self.storage)

    async def doomed(self, write: Callable[[], Any], point: int) -> bool:
        self.storage.crash_after = point
        try:
            await write()
        except OutcomeUnknown:
            return False
        self.storage.crash_after = None
        return True


class SqliteMachine(Machine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()

    async def first(self) -> Backend:
        from vectable.backends.sqlite import SqliteBackend
        from vectable.drivers.sqlite import SqliteDriver

        backend = SqliteBackend(SqliteDriver(self.directory.name, synchronous="normal"), tombstones=1)
        await backend.open()
        return backend

    async def again(self) -> Backend:
        await self.subject.backend.close()
        return await self.first()

    async def doomed(self, write: Callable[[], Any], point: int) -> bool:
        return await cancelled(write, point)

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


class PostgresMachine(Machine):
    url: ClassVar[str]

    async def first(self) -> Backend:
        from vectable.backends.postgres import PostgresBackend
        from vectable.drivers.postgres import PostgresDriver

        backend = PostgresBackend(PostgresDriver(self.url, pool_least=1), tombstones=1)
        await backend.open()
        return backend

    async def again(self) -> Backend:
        await self.subject.backend.close()
        return await self.first()

    async def doomed(self, write: Callable[[], Any], point: int) -> bool:
        """Its connections are cut by the server, wherever they are; those it goes on with, too."""
        import asyncpg

        from vectable.drivers.postgres import Address

        other = await asyncpg.connect(**Address.parse(self.url).arguments)
        task = asyncio.ensure_future(write())
        await asyncio.sleep(point * 0.001)
        acknowledged = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await other.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await other.close()
        return acknowledged


async def cancelled(write: Callable[[], Any], point: int) -> bool:
    """Cancels a write a few turns of the loop after its start; whether it was acknowledged before."""
    task = asyncio.ensure_future(write())
    for _ in range(point):
        await asyncio.sleep(0)
    acknowledged = task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return acknowledged


# Shrinking would take minutes, past the time limit of a test; an example of 25 steps can be read as it is.
PLAN = settings(
    max_examples=100,
    stateful_step_count=25,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
TestMemoryMachine = MemoryMachine.TestCase
TestHostileMachine = HostileMachine.TestCase
TestSqliteMachine = SqliteMachine.TestCase
TestMemoryMachine.settings = TestHostileMachine.settings = PLAN
TestSqliteMachine.settings = settings(PLAN, max_examples=20)


class TestPostgresMachine(PostgresMachine.TestCase):  # type: ignore[name-defined, misc]
    settings = settings(PLAN, max_examples=10)

    @pytest.fixture(autouse=True)
    def _database(self, postgres_url: str) -> None:
        """One for all examples: the tables of each are its own."""
        PostgresMachine.url = postgres_url
