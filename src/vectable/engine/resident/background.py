"""One worker thread per process for what searches must not wait for: merges, builds, files."""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)
Job = Callable[[threading.Event], None]
"""Gets the event that tells it to stop."""


class Background:
    """Runs jobs one after another. The thread starts with the first job, and stops within about a second when
    the interpreter exits: a library call under way cannot be interrupted."""

    def __init__(self, settle: float = 0.5) -> None:
        self._settle = settle
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._running = False
        self._thread: threading.Thread | None = None

    def submit(self, job: Job) -> None:
        """Runs `job` soon. It starts `settle` seconds after the worker last slept, so a program that asks one
        question and leaves never waits for a build."""
        with self._changed:
            if self._stop.is_set():
                return
            self._jobs.append(job)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="vectable-background", daemon=True)
                self._thread.start()
                atexit.register(self.stop)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._stop.is_set():
                    self._changed.wait()
            if self._stop.wait(self._settle):
                return
            while True:
                with self._changed:
                    if not self._jobs or self._stop.is_set():
                        break
                    job = self._jobs.popleft()
                    self._running = True
                try:
                    job(self._stop)
                except Exception:
                    log.exception("what searches do not wait for has failed")
                finally:
                    with self._changed:
                        self._running = False
                        self._changed.notify_all()

    def drain(self, timeout: float = 60.0) -> bool:
        """Waits until there is nothing left to do; False when that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._running, timeout)

    def stop(self) -> None:
        """Lets the job under way end, drops the others, and waits for the thread."""
        self._stop.set()
        with self._changed:
            self._jobs.clear()
            self._changed.notify_all()
            thread = self._thread
        with contextlib.suppress(Exception):
            atexit.unregister(self.stop)
        if thread is not None and thread is not threading.current_thread():
            thread.join(30.0)
