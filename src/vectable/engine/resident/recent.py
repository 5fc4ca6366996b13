"""Rows that hits were shown with lately, true at one mark: what a search need not fetch again."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.rows import Row

_ENTRY = 300
"""Bytes a row needs beside its values: the dicts it is in."""


class RecentRows:
    """At most `most_bytes` of rows, those used last, and no more of them than before where there is no `room`
    for so many bytes; every one as it is at the mark of the resident rows beside it. A row is held once for
    each `shape`, which names the columns it was fetched with. Rows are copied on their way in and out:
    whoever gets one may change it. Thread-safe."""

    def __init__(self, most_bytes: int, room: Callable[[int], bool] | None = None) -> None:
        self.nbytes = 0
        self.complete = False
        """The search before found all its rows here."""
        self._most = most_bytes
        self._room = room
        self._mark: Mark | None = None
        self._rows: OrderedDict[KeyBytes, dict[str, tuple[Row, int]]] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, mark: Mark | None) -> None:
        """Forgets everything; what is kept from now on is true at `mark` (None: nothing is kept)."""
        with self._lock:
            self._rows.clear()
            self.nbytes, self.complete, self._mark = 0, False, mark

    def move(self, mark: Mark, changed: Iterable[KeyBytes]) -> None:
        """All but the rows of these keys are the same at `mark`."""
        with self._lock:
            for key in changed:
                self._drop(self._rows.pop(key, {}))
            self._mark = mark

    def found(self, mark: Mark, shape: str, keys: Sequence[KeyBytes]) -> dict[KeyBytes, Row]:
        """Those of the rows that are held as they are at `mark`."""
        held: dict[KeyBytes, Row] = {}
        with self._lock:
            if mark == self._mark:
                for key in keys:
                    entry = self._rows.get(key, {}).get(shape)
                    if entry is not None:
                        held[key] = entry[0]
                        self._rows.move_to_end(key)
            self.complete = len(held) == len(keys)
        return {key: _copied(row) for key, row in held.items()}

    def keep(self, mark: Mark, shape: str, rows: Mapping[KeyBytes, Row]) -> None:
        """Holds rows fetched as they are at `mark`, in place of those used longest ago."""
        copies = [(key, _copied(row), _ENTRY + _size(row)) for key, row in rows.items()]
        more = min(sum(size for *_, size in copies), self._most - self.nbytes)
        # Asked for outside the lock: what tells it adds up all that is held, this too.
        grows = self._room is None or self._room(more)
        with self._lock:
            if mark != self._mark:
                return
            most = self._most if grows else self.nbytes
            for key, row, size in copies:
                if size > most:
                    continue
                shapes = self._rows.setdefault(key, {})
                self.nbytes += size - shapes.get(shape, (row, 0))[1]
                shapes[shape] = row, size
                self._rows.move_to_end(key)
            while self.nbytes > most:
                self._drop(self._rows.popitem(last=False)[1])

    def _drop(self, shapes: Mapping[str, tuple[Row, int]]) -> None:
        self.nbytes -= sum(size for _, size in shapes.values())


def _copied(value: Any) -> Any:
    """The value, of JSON and lists a copy all the way down."""
    kind = type(value)
    if kind is dict:
        return {name: _copied(part) if type(part) in (dict, list) else part for name, part in value.items()}
    return [_copied(part) for part in value] if kind is list else value


def _size(value: Any) -> int:
    """About how many bytes it takes."""
    size = sys.getsizeof(value)
    if type(value) is dict:
        return size + sum(_size(part) for part in value.values())
    return size + sum(map(_size, value)) if type(value) is list else size
