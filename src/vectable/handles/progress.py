"""Progress of long work, shown to people only: a bar in a terminal, a line in a notebook, nothing in a
pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Protocol, Self

PATIENCE = 0.4
"""Seconds of work after which progress appears: what is done sooner needs none."""
_EVERY = 0.2
"""Seconds between two lines in a notebook."""

Update = Callable[[int, int | None], None]
"""(done, total or None where it is not known)."""


class Display(Protocol):
    """Shows how far one piece of work is, from the first `show` to `close`."""

    def show(self, done: int, total: int | None) -> None: ...
    def close(self) -> None: ...


def audience() -> Literal["terminal", "notebook"] | None:
    """Who is watching: nobody, where standard error is not a terminal and no notebook runs us."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    if running is not None and type(running).__name__ == "ZMQInteractiveShell":
        return "notebook"
    try:
        return "terminal" if sys.stderr.isatty() else None
    except (AttributeError, ValueError):
        return None


@contextmanager
def progress(label: str, unit: str = "rows", begun: int = 0) -> Iterator[Update]:
    """Calls of what this yields move the display; it appears after 0.4 s, and is gone at the end. `begun`:
    how much was done before, which tells nothing about the rate."""
    watched = audience()
    if watched is None:
        yield lambda done, total: None
        return
    with _Delayed(label, unit, watched, begun) as delayed:
        yield delayed.update


class Downloads(Protocol):
    """Whoever fetches models."""

    on_download: Callable[[str, int, int], None] | None


@contextmanager
def fetching(downloads: Downloads, model: str | None) -> Iterator[None]:
    """Shows how far the download of a model is, where one is needed within the block."""
    with progress(f"fetch {model or 'the model'}", "bytes") as update:
        before, downloads.on_download = downloads.on_download, lambda _, done, total: update(done, total)
        try:
            yield
        finally:
            downloads.on_download = before


class _Delayed:
    def __init__(self, label: str, unit: str, watched: str, begun: int) -> None:
        self._label, self._unit, self._watched, self._begun = label, unit, watched, begun
        self._started = time.monotonic()
        self._display: Display | None = None
        self._over = False

    def __enter__(self) -> Self:
        return self

    def update(self, done: int, total: int | None) -> None:
        if self._display is None:
            if self._over or time.monotonic() - self._started < PATIENCE:
                return
            make = _Bar if self._watched == "terminal" else Line
            self._display = make(self._label, self._unit, self._started, self._begun)
        self._display.show(done, total)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        if self._display is not None:
            self._display.close()


def rate(done: int, seconds: float) -> float:
    """Units per second so far."""
    return done / seconds if seconds > 0 else 0.0


def eta(done: int, total: int | None, per_second: float) -> str:
    """The time left as "m:ss", or "?" where it cannot be told."""
    if total is None or per_second <= 0:
        return "?"
    left = max(0, round((total - done) / per_second))
    hours, minutes, seconds = left // 3600, left // 60 % 60, left % 60
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def describe(done: int, total: int | None, unit: str, seconds: float, begun: int = 0) -> str:
    """ "1,200 of 10,000 rows, 137 rows/s, 1:04 left": at the rate since `begun` were done."""
    speed = rate(done - begun, seconds)
    amount = f"{done:,} of {total:,} {unit}" if total is not None else f"{done:,} {unit}"
    left = f", {eta(done, total, speed)} left" if total is not None else ""
    return f"{amount}, {speed:,.0f} {unit}/s{left}"


class _Bar:
    """A bar in a terminal, on standard error."""

    def __init__(self, label: str, unit: str, started: float, begun: int = 0) -> None:
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import BarColumn, Progress, TextColumn

        self._unit, self._started, self._begun = unit, started, begun
        self._progress = Progress(
            TextColumn(escape(label)),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: Any = self._progress.add_task(label, total=None, text="")
        self._progress.start()

    def show(self, done: int, total: int | None) -> None:
        text = describe(done, total, self._unit, time.monotonic() - self._started, self._begun)
        self._progress.update(self._task, completed=done, total=total, text=text)

    def close(self) -> None:
        self._progress.stop()


class Line:
    """One line, written over and over: notebooks show that without any widget installed."""

    def __init__(self, label: str, unit: str, started: float, begun: int = 0) -> None:
        self._label, self._unit, self._started, self._begun = label, unit, started, begun
        self._last = 0.0
        self._width = 0

    def show(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._last < _EVERY:
            return
        self._last = now
        self._write(f"{self._label}: {describe(done, total, self._unit, now - self._started, self._begun)}")

    def _write(self, text: str) -> None:
        sys.stdout.write("\r" + text.ljust(self._width))
        sys.stdout.flush()
        self._width = len(text)

    def close(self) -> None:
        self._write("")
        sys.stdout.write("\r")
        sys.stdout.flush()
