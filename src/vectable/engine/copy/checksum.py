"""Checksums of a table's columns, equal for equal contents on whatever backend."""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from vectable.core.cell import Cell
from vectable.core.key import KeyBytes, timestamp_micros
from vectable.core.rows import RecordBatch
from vectable.core.schema import Table


def canonical(value: Any) -> bytes:
    """A value as bytes: the same for values that mean the same. JSON numbers count by value, objects whatever
    the order of their fields, and true is not 1."""
    if value is None:
        return b"n"
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, str):
        return b"s" + value.encode()
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, bytes):
        return b"b" + value
    if isinstance(value, dt.datetime):
        return b"m%d" % timestamp_micros(value)
    if isinstance(value, list):
        return b"[" + b"".join(_framed(canonical(v)) for v in value)
    if isinstance(value, dict):
        pairs = sorted((k.encode(), canonical(v)) for k, v in value.items())
        return b"{" + b"".join(_framed(k) + _framed(v) for k, v in pairs)
    raise TypeError(f"no column holds a {type(value).__name__}")


def _number(value: float) -> bytes:
    if isinstance(value, int) or value.is_integer():
        return b"i%x" % int(value)
    return b"d" + struct.pack(">d", value)


def _framed(part: bytes) -> bytes:
    return len(part).to_bytes(8, "little") + part


def cell_bytes(cell: Cell) -> bytes:
    """A cell as bytes."""
    parts = (cell.want, cell.have, cell.vector, None if cell.error is None else cell.error.encode())
    known = b"".join(b"-" if part is None else b"+" + _framed(bytes(part)) for part in parts)
    return known + b"%d" % cell.attempts


@dataclass(slots=True)
class Checksums:
    """What was read of one side: rows, and blake3 by column (of a vector column: by version)."""

    table: Table
    rows: int = 0
    _hashes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [c.name for c in self.table.stored_columns]
        self._hashes = {name: blake3() for name in (*names, *self._labels())}

    def _labels(self) -> list[str]:
        """What the versions are called here, in the table's order: the active one as its column."""
        labels = []
        for column in self.table.vector_columns:
            for i, version in enumerate(column.versions):
                labels.append(column.name if version.id == column.active else f"{column.name} {i + 1}")
        return labels

    def add(self, batch: RecordBatch) -> None:
        """The next rows in key order, with every stored column and version."""
        self.rows += len(batch)
        for name, values in batch.columns.items():
            self._hashes[name].update(_joined(batch.keys, values, canonical))
        for label, (_, version) in zip(self._labels(), self.table.versions, strict=True):
            self._hashes[label].update(_joined(batch.keys, batch.cells[version.id], cell_bytes))

    def by_column(self) -> dict[str, str]:
        """Hex digests."""
        return {name: found.hexdigest() for name, found in self._hashes.items()}

    def differing(self, other: Checksums) -> list[str]:
        """Columns whose contents are not the same; "rows" among them where the counts are not."""
        ours, theirs = self.by_column(), other.by_column()
        apart = [name for name in ours if ours[name] != theirs.get(name)]
        return apart + (["rows"] if self.rows != other.rows else [])


def _joined(keys: Sequence[KeyBytes], values: Sequence[Any], form: Callable[[Any], bytes]) -> bytes:
    pairs = zip(keys, values, strict=True)
    return b"".join(_framed(key) + _framed(form(value)) for key, value in pairs)
