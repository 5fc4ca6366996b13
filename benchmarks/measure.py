"""How things are timed: in turn, in one run, so that a busy machine slows both sides of a ratio."""

from __future__ import annotations

import gc
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

Bound = tuple[Literal["<=", ">="], float]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value beside what was wanted (None: for comparison only)."""

    name: str
    value: float
    unit: str
    target: Bound | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None without one."""
        if self.target is None:
            return None
        relation, bound = self.target
        return self.value <= bound if relation == "<=" else self.value >= bound


def alternately(calls: Sequence[Callable[[int], Any]], rounds: int, block: int = 25) -> list[list[float]]:
    """Milliseconds of each call, `rounds` times, told the round's number: `block` rounds of one call, then of
    the next, and so on, so that all share the machine's moods, and none works on caches another has just
    filled. The first round of a block is not counted, nor the first block."""
    times: list[list[float]] = [[] for _ in calls]
    gc.collect()
    for start in range(-block, rounds, block):
        for call, kept in zip(calls, times, strict=True):
            for number in range(start - 1, start + block):
                started = time.perf_counter()
                call(number % rounds)
                if start >= 0 and number >= start:
                    kept.append((time.perf_counter() - started) * 1000)
    return times


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0-1) of the values lie, the nearest rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def once(call: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds of one call, and what it returned."""
    started = time.perf_counter()
    value = call()
    return (time.perf_counter() - started) * 1000, value


def tell(what: str) -> None:
    """Says on standard error what is being measured."""
    print(f"  {what}", file=sys.stderr, flush=True)


def machine() -> str:
    """What the figures were taken on."""
    import os

    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        )
        if Path("/proc/cpuinfo").exists()
        else iter(()),
        platform.processor() or platform.machine(),
    )
    return f"{os.cpu_count()} x {model}, Python {platform.python_version()}, {platform.system()}"


def show(title: str, figures: Sequence[Figure]) -> None:
    """Prints figures beside their targets."""
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("figure", no_wrap=True)
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("target", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("note", style="dim")
    for figure in figures:
        met = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[figure.met]
        target = "" if figure.target is None else f"{figure.target[0]} {figure.target[1]:g} {figure.unit}"
        table.add_row(figure.name, f"{figure.value:.4g} {figure.unit}", target, met, figure.note)
    Console(width=150).print(table)
