"""Several worker processes behind one socket: started, replaced when they die, renewed when the code changes.

They share what the database holds: tables, jobs, keys, the persistent cache. Each has its own memory tier of
the cache and its own models; their metrics are summed up.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import vectable
from vectable.config import Settings
from vectable.database import Database
from vectable.errors import BackendError, InvalidInput
from vectable.server.exposure import check_keys
from vectable.server.metrics.measure import SHARED_DIRECTORY
from vectable.server.metrics.shared import forget_process, note_start
from vectable.storage import database_directory, in_server

log = logging.getLogger("vectable.server")
_POLL_S = 0.1
_LOOK_S = 0.5
_KILL_AFTER_S = 10.0
_PAUSES_S = (0.1, 1.0, 5.0, 30.0)
"""Before a worker that died is replaced, by how many died lately."""
_LATELY_S = 60.0


def supervise(settings: Settings, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Keeps `settings.workers` processes serving on `listener` until SIGINT or SIGTERM; then lets each finish
    what it is at. Raises InvalidInput for a database in memory, BackendError when no worker starts, and what
    opening the database raises."""
    if not in_server(settings.db) and database_directory(settings.db) is None and settings.workers > 1:
        raise InvalidInput(
            "a database in memory lives in one process", hint="name a directory, or --workers 1"
        )
    asyncio.run(_check(settings))
    crew = _Crew(settings, listener)
    stop = threading.Event()

    def told(_: int, __: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        crew.start(stop)
        if not stop.is_set():
            ready()
        crew.keep(stop)
    finally:
        crew.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


async def _check(settings: Settings) -> None:
    """Raises here, before anything is started, what every worker would raise."""
    async with await Database.open(settings=settings) as database:
        await check_keys(settings, database.keys)


@dataclasses.dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[str]
    ready: threading.Event


class _Crew:
    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._workers: list[_Worker] = []
        self._deaths: list[float] = []
        self._shared = tempfile.mkdtemp(prefix="vectable-metrics-") if settings.workers > 1 else None
        if self._shared:
            note_start(Path(self._shared))
        self._code = _stamp() if settings.reload else 0

    def start(self, stop: threading.Event) -> None:
        """Starts all; returns once one is ready. Raises BackendError when one cannot start."""
        self._workers = [self._begin() for _ in range(self._settings.workers)]
        while not stop.is_set() and not any(w.ready.is_set() for w in self._workers):
            if any(w.process.poll() is not None for w in self._workers):
                raise BackendError("a worker process could not start", hint="the log says why")
            stop.wait(_POLL_S)

    def _begin(self) -> _Worker:
        self._listener.set_inheritable(True)
        descriptor = self._listener.fileno()
        environment = dict(os.environ)
        if self._shared:
            environment[SHARED_DIRECTORY] = self._shared
        process = subprocess.Popen(  # noqa: S603 - this interpreter, with a number
            [sys.executable, "-m", "vectable.server.worker", str(descriptor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=(descriptor,),
            env=environment,
            start_new_session=True,
        )
        worker = _Worker(process, threading.Event())
        threading.Thread(target=_hear, args=(worker,), daemon=True).start()
        if process.stdin is not None:
            try:
                process.stdin.write(json.dumps(dataclasses.asdict(self._settings)) + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass  # it died already, which is seen by whoever looks at it
        return worker

    def keep(self, stop: threading.Event) -> None:
        """Replaces workers that die, and all of them when the code changed, until `stop`."""
        looked = time.monotonic()
        while not stop.wait(_POLL_S):
            for place, worker in enumerate(self._workers):
                if worker.process.poll() is not None:
                    self._bury(worker)
                    if stop.wait(self._pause_s()):
                        return
                    self._workers[place] = self._begin()
            if self._settings.reload and time.monotonic() - looked > _LOOK_S:
                looked = time.monotonic()
                self._renew(stop)

    def _renew(self, stop: threading.Event) -> None:
        code = _stamp()
        if code == self._code:
            return
        self._code = code
        log.warning("the code changed: starting anew")
        self._end()
        if not stop.is_set():
            self._workers = [self._begin() for _ in range(self._settings.workers)]

    def _bury(self, worker: _Worker) -> None:
        log.warning("worker %s ended with %s: replaced", worker.process.pid, worker.process.returncode)
        self._deaths = [at for at in self._deaths if time.monotonic() - at < _LATELY_S]
        self._deaths.append(time.monotonic())
        self._forget(worker)

    def _pause_s(self) -> float:
        return _PAUSES_S[min(len(self._deaths), len(_PAUSES_S)) - 1]

    def _forget(self, worker: _Worker) -> None:
        """What a worker that is gone had in memory no longer counts; what it did still does."""
        if self._shared:
            forget_process(Path(self._shared), worker.process.pid)

    def _end(self) -> None:
        """Tells all to stop, waits for what they are at, and ends those that take too long."""
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + self._settings.shutdown_grace_ms / 1_000 + _KILL_AFTER_S
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            if worker.process.returncode:
                log.warning("worker %s ended with %s", worker.process.pid, worker.process.returncode)
            if worker.process.stdin is not None:
                worker.process.stdin.close()
            self._forget(worker)

    def stop(self) -> None:
        """Ends all workers, and with them the socket: whoever connects now is refused, instead of waiting for
        an answer that will not come."""
        self._listener.close()
        self._end()
        self._workers = []
        if self._shared:
            shutil.rmtree(self._shared, ignore_errors=True)


def _hear(worker: _Worker) -> None:
    # To its end: a library that prints would fill the pipe, and the worker wait for a reader.
    with worker.process.stdout or contextlib.nullcontext(()) as said:
        for line in said:
            if line == "ready\n":
                worker.ready.set()


def _stamp() -> int:
    """Changes with any file of the package."""
    found = []
    for file in Path(vectable.__file__).parent.rglob("*.py"):
        with contextlib.suppress(OSError):  # an editor's lock that links nowhere, or gone since it was listed
            found.append((str(file), file.stat().st_mtime_ns))
    return hash(tuple(sorted(found)))
