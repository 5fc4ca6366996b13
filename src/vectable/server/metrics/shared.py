"""The numbers of a server's other worker processes: each keeps its own in a file that the others read.

A worker writes before it tells, so what was told once is in its file, and no counter ever seems to go back.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vectable.server.metrics.families import Family, Labels

log = logging.getLogger(__name__)
_LASTING, _PASSING = "lasting", "passing"
_BEGAN = "began"
Numbers = dict[str, dict[Labels, Any]]
"""By the family's name."""


def note_start(directory: Path) -> None:
    """The server whose workers share the directory starts now."""
    (directory / _BEGAN).write_text(str(time.monotonic()), "utf-8")


def started(directory: Path | None) -> float:
    """When the server of this process started, in seconds of `time.monotonic()`, which is one clock for all
    processes of a machine. Now, where this process is all of it."""
    if directory is not None:
        with contextlib.suppress(OSError, ValueError):
            return float((directory / _BEGAN).read_text("utf-8"))
    return time.monotonic()


def write_numbers(directory: Path, pid: int, families: Sequence[Family]) -> None:
    """Puts the numbers of this process where the others find them. Never fails: metrics stop no server."""
    found: dict[str, dict[str, Any]] = {_LASTING: {}, _PASSING: {}}
    for family in families:
        values = [[list(labels), value] for labels, value in family.values.items()]
        found[_LASTING if family.lives_on else _PASSING][family.name] = values
    try:
        _replace(directory / f"{pid}.json", found)
    except OSError as error:
        log.warning("metrics are not shared: %s", error)


def _replace(file: Path, found: dict[str, Any]) -> None:
    # At once: whoever reads half a file takes it for none, and a counter would go back.
    passing = file.with_suffix(".new")
    passing.write_text(json.dumps(found), "utf-8")
    os.replace(passing, file)


def read_numbers(directory: Path, but: int) -> list[Numbers]:
    """The numbers of every other process that has written some."""
    found: list[Numbers] = []
    for file in sorted(directory.glob("*.json")):
        if file.stem != str(but):
            with contextlib.suppress(OSError, ValueError, KeyError):
                found.append(_parsed(json.loads(file.read_text("utf-8"))))
    return found


def forget_process(directory: Path, pid: int) -> None:
    """A process ended: what it held no longer counts, what it did still does."""
    file = directory / f"{pid}.json"
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(file.read_text("utf-8"))
        _replace(file, {**found, _PASSING: {}})


def _parsed(found: dict[str, Any]) -> Numbers:
    together = found[_LASTING] | found[_PASSING]
    return {name: {tuple(labels): value for labels, value in values} for name, values in together.items()}
