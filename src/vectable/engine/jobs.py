"""Jobs: long work with progress, seen by every process, cancellable from any, resumed after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, Field

from vectable.core.context import Context
from vectable.core.schema import new_id
from vectable.engine.leases import Leases, Process, this_process
from vectable.engine.stored import stored_model
from vectable.errors import BackendError, Conflict, JobNotFound, VectableError
from vectable.interfaces import StateStore

Status = Literal["queued", "running", "done", "error", "cancelled"]
ENDED: frozenset[str] = frozenset({"done", "error", "cancelled"})
_KEEP = 1_000
_POLL_S = 0.15
_PUBLISH_S = 0.5
_PATIENCE = 10
"""Polls without any change after which it is worth to see whether anybody is at work."""
_OWED = "owed/"
_OPEN = "open-job/"
"""Beside the record of every job that has not ended, so that those are found without reading all."""
log = logging.getLogger(__name__)


class Job(BaseModel):
    """What a client sees of a job. `rate` is items per second, `eta_s` seconds to the end, both null when
    unknown."""

    id: str
    kind: str
    table: str
    status: Status
    done: int = 0
    total: int = 0
    rate: float | None = None
    eta_s: float | None = None
    error: str | None = None
    created_at: str
    finished_at: str | None = None


class Unfinished(BaseModel):
    """A job that has not ended, with what its work is given."""

    job: Job
    payload: dict[str, Any] = Field(default_factory=dict)
    owed: str | None = None
    """The note that this job redeems."""


class _Owed(Process):
    """A job that has to be done, and who said so."""

    kind: str
    table: str
    payload: dict[str, Any]


class Progress:
    """Handed to a job's work: told what is done, asked whether to stop. `stopped`: the work is to end, since
    somebody cancelled the job (`cancelled`) or this process ends."""

    def __init__(self, total: int) -> None:
        self.done = 0
        self.total = total
        self.cancelled = False
        self.stopped = False
        self._started = time.monotonic()

    def add(self, n: int) -> None:
        """`n` more items are done."""
        self.done += n

    def set(self, done: int, total: int) -> None:
        """`done` of `total` items are done."""
        self.done, self.total = done, total

    def rate(self) -> float | None:
        """Items per second so far."""
        seconds = time.monotonic() - self._started
        return self.done / seconds if self.done and seconds > 0 else None


Work = Callable[[dict[str, Any], Progress], Coroutine[Any, Any, None]]
"""(payload, progress): must be safe to run again from the start after a crash."""


class Jobs:
    """Starts jobs, runs those of this process, shows everybody's."""

    def __init__(self, state: StateStore, leases: Leases) -> None:
        self._state = state
        self._leases = leases
        self._kinds: dict[str, Work] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._broken: dict[str, BaseException] = {}
        """Why jobs this process worked on could not even be recorded as ended."""

    def register(self, kind: str, work: Work) -> None:
        """Says how jobs of `kind` are done."""
        self._kinds[kind] = work

    async def start(
        self, kind: str, table: str, payload: dict[str, Any], total: int, owed: str | None = None
    ) -> str:
        """Records a job and begins it in this process; its id. `owed`: the note it redeems."""
        job = Job(id=new_id(), kind=kind, table=table, status="queued", total=total, created_at=_now())
        record = Unfinished(job=job, payload=payload, owed=owed)
        puts = {f"job/{job.id}": record.model_dump_json().encode(), f"{_OPEN}{job.id}": b""}
        await self._state.commit(puts=puts)
        self._begin(job.id)
        return job.id

    def owe(self, kind: str, table: str, payload: dict[str, Any]) -> tuple[str, bytes]:
        """A note (key and value in the state store) that a job has to be done. Committed together with what
        makes the job necessary, it outlives a crash before the job is recorded."""
        note = _Owed(kind=kind, table=table, payload=payload, **this_process())
        return f"{_OWED}{new_id()}", note.model_dump_json().encode()

    async def redeem(self, owed: str) -> None:
        """What was owed is done, without a job."""
        await self._state.commit(deletes=[owed])

    def runs(self, job_id: str) -> bool:
        """Whether this process works on it."""
        return job_id in self._tasks

    def _begin(self, job_id: str) -> None:
        self._broken.pop(job_id, None)
        self._tasks[job_id] = task = asyncio.create_task(self._run(job_id), name=f"job {job_id}")
        task.add_done_callback(partial(self._ended, job_id))

    def _ended(self, job_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(job_id, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._broken[job_id] = error
            log.warning("job %s is left to another process or another time: %s", job_id, _sentence(error))

    async def _run(self, job_id: str) -> None:
        async with self._leases.hold(f"job/{job_id}") as lease:
            if lease is None:
                return
            record = await self._record(job_id)
            if record.job.status in ENDED:
                return
            record.job.status = "running"
            await self._save(record)
            progress = Progress(record.job.total)
            work = asyncio.create_task(self._kinds[record.job.kind](record.payload, progress))
            try:
                await self._watch(record, progress, work)
            finally:
                await _end(work, progress)

    async def _watch(self, record: Unfinished, progress: Progress, work: asyncio.Task[None]) -> None:
        job = record.job
        while not work.done():
            await asyncio.wait([work], timeout=_PUBLISH_S)
            if work.done():
                break
            try:
                if await self._cancelled(job.id):
                    progress.cancelled = True
                    await _end(work, progress)
                    return
                _report(job, progress)
                await self._save(record, unless="cancelled")
            except BackendError as unsaved:
                log.warning("the progress of job %s could not be noted: %s", job.id, unsaved)
        _report(job, progress)
        error = None if work.cancelled() else work.exception()
        job.status = "cancelled" if work.cancelled() else "error" if error else "done"
        job.error = None if error is None else _sentence(error)
        job.finished_at, job.eta_s = _now(), None
        if error is not None and not isinstance(error, VectableError):
            log.error("job %s failed", job.id, exc_info=error)
        await self._save(record)

    async def _cancelled(self, job_id: str) -> bool:
        """Whether somebody cancelled it; also when it is no longer known, after a restore."""
        try:
            return (await self._record(job_id)).job.status == "cancelled"
        except JobNotFound:
            return True

    async def list(self, context: Context) -> list[Job]:
        """Every job still known, the newest first."""
        records = await self._state.scan("job/")
        jobs = [stored_model(Unfinished, key, e).job for key, e in records.items()]
        if len(jobs) > 2 * _KEEP:
            await self.prune()
        return sorted(jobs, key=lambda j: (j.created_at, j.id), reverse=True)

    async def get(self, job_id: str) -> Job:
        """The job as it is now. Raises JobNotFound."""
        return (await self._record(job_id)).job

    async def cancel(self, job_id: str) -> Job:
        """Asks it to stop, wherever it runs; what it did stays. Ended jobs stay as they are."""
        record = await self._record(job_id)
        if record.job.status not in ENDED:
            record.job.status, record.job.finished_at = "cancelled", _now()
            await self._save(record)
            task = self._tasks.get(job_id)
            if task is not None:
                await asyncio.wait([task], timeout=10)
        return (await self._record(job_id)).job

    async def events(self, job_id: str) -> AsyncIterator[Job]:
        """The job now, then at every change until it has ended. Takes it over when its process is gone.
        Raises what kept this process from going on with it, such as DiskFull."""
        last = None
        unchanged = 0
        while True:
            job = await self.get(job_id)
            if job != last:
                yield job
                last, unchanged = job, 0
            if job.status in ENDED:
                return
            if job_id in self._broken:
                raise self._broken[job_id]
            unchanged += 1
            if unchanged % _PATIENCE == 0 and job.kind in self._kinds and await self._abandoned(job_id):
                self._begin(job_id)
            await asyncio.sleep(_POLL_S)

    async def _abandoned(self, job_id: str) -> bool:
        return not self.runs(job_id) and not await self._leases.held(f"job/{job_id}")

    async def wait(self, job_id: str, timeout: float | None = None) -> Job:  # noqa: ASYNC109
        """The job once it has ended. Raises TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            async for job in self.events(job_id):
                if job.status in ENDED:
                    return job
        return await self.get(job_id)

    async def outstanding(self, table_id: str) -> Sequence[tuple[str, dict[str, Any]]]:
        """Kind and payload of every job of the table that has not ended, or is owed."""
        found = [(u.job.kind, u.payload) for u in await self.unfinished()]
        notes = (await self._state.scan(_OWED)).items()
        found += [(note.kind, note.payload) for note in (stored_model(_Owed, k, e) for k, e in notes)]
        return [(kind, payload) for kind, payload in found if payload.get("table") == table_id]

    async def resume(self, kinds: Collection[str] | None = None) -> int:
        """Takes over jobs (of `kinds`, if given) whose process is gone, and starts those that are owed; how
        many. Safe in every process."""
        known = self._kinds.keys() if kinds is None else self._kinds.keys() & set(kinds)
        resumed = 0
        unfinished = await self.unfinished()
        for record in unfinished:
            job = record.job
            if job.kind in known and await self._abandoned(job.id):
                self._begin(job.id)
                resumed += 1
        redeemed = {record.owed for record in unfinished}
        for key, entry in (await self._state.scan(_OWED)).items():
            note = stored_model(_Owed, key, entry)
            if key not in redeemed and note.kind in known and not note.alive():
                await self.start(note.kind, note.table, note.payload, 0, key)
                resumed += 1
        return resumed

    async def unfinished(self) -> Sequence[Unfinished]:
        """Every job that has not ended, wherever it runs."""
        ids = [key.removeprefix(_OPEN) for key in await self._state.scan(_OPEN)]
        entries = await self._state.get([f"job/{id_}" for id_ in ids])
        records = [stored_model(Unfinished, key, e) for key, e in entries.items()]
        return [r for r in records if r.job.status not in ENDED]

    async def prune(self) -> None:
        """Forgets all but the newest thousand ended jobs."""
        ended = []
        for key, entry in (await self._state.scan("job/")).items():
            job = stored_model(Unfinished, key, entry).job
            if job.status in ENDED:
                ended.append((job.created_at, key))
        old = [key for _, key in sorted(ended)[:-_KEEP]]
        if old:
            await self._state.commit(deletes=old)

    def running(self) -> Sequence[str]:
        """Ids of the jobs this process works on."""
        return sorted(self._tasks)

    async def close(self) -> None:
        """Stops this process's jobs; they are taken up again by the next one."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _record(self, job_id: str) -> Unfinished:
        key = f"job/{job_id}"
        entry = (await self._state.get([key])).get(key)
        if entry is None:
            raise JobNotFound(f"there is no job {job_id!r}", hint="list the jobs to see what there is")
        return stored_model(Unfinished, key, entry)

    async def _save(self, record: Unfinished, unless: Status | None = None) -> None:
        """Once the job has ended, what pointed to it as unfinished goes, too."""
        key = f"job/{record.job.id}"
        paid: list[str] = []
        if record.job.status in ENDED:
            paid = [f"{_OPEN}{record.job.id}", *([record.owed] if record.owed else [])]
        for _ in range(5):
            entry = (await self._state.get([key])).get(key)
            if entry and unless and stored_model(Unfinished, key, entry).job.status == unless:
                break
            expects = {key: entry.revision if entry else 0}
            with contextlib.suppress(Conflict):
                await self._state.commit(expects, {key: record.model_dump_json().encode()}, paid)
                break


async def _end(work: asyncio.Task[None], progress: Progress) -> None:
    """Stops the work and waits until it has."""
    if not work.done():
        progress.stopped = True
        work.cancel()
        await asyncio.wait([work])
    if not work.cancelled():
        work.exception()  # looked at, so that asyncio does not complain


def _report(job: Job, progress: Progress) -> None:
    job.done, job.total, job.rate = progress.done, max(progress.total, progress.done), progress.rate()
    left = job.total - job.done
    job.eta_s = left / job.rate if job.rate and left >= 0 else None


def _sentence(error: BaseException) -> str:
    return str(error) if isinstance(error, VectableError) else f"unexpected {type(error).__name__}: {error}"


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
