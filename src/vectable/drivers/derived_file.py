"""Derived files: written whole or not at all, and recognised when torn, foreign or damaged.

Layout: magic (8 bytes), header length (u32), blake3 of the header (32 bytes), header (JSON), zero bytes up
to a multiple of 64, sections one after another, each padded to a multiple of 64. The header lists the
sections' lengths and digests. Everything is little-endian.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import secrets
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

MAGIC = b"VECTDRV1"
FORMAT = 1
_ALIGN = 64
_LEAD = struct.Struct("<8sI32s")
_BLOCK = 4 << 20
_MAX_HEADER = 64 << 20
_CHECK_WHOLE = 64
"""Blocks of a section that are verified at most when it is opened: up to 256 MiB are verified whole."""

Buffer = bytes | memoryview


class Unusable(Exception):
    """The file is missing, torn, damaged, or not what was expected: make it anew."""


@dataclass(frozen=True, slots=True)
class Derived:
    """An opened file: its header's facts and its sections as read-only views of the mapped file."""

    facts: Mapping[str, Any]
    sections: Sequence[memoryview]
    digest: str


def _digests(section: Buffer) -> list[str]:
    view = memoryview(section).cast("B") if len(section) else memoryview(b"")
    return [blake3(view[at : at + _BLOCK]).hexdigest(16) for at in range(0, len(view), _BLOCK)]


def _padding(length: int) -> bytes:
    return b"\0" * (-length % _ALIGN)


def write(path: Path, facts: Mapping[str, Any], sections: Sequence[Buffer]) -> str:
    """Writes the file atomically (temporary file, fsync, rename) and durably; returns the digest that names
    its contents. Raises OSError."""
    header = json.dumps(
        {
            "format": FORMAT,
            "facts": dict(facts),
            "sections": [
                {"bytes": len(memoryview(s).cast("B")) if len(s) else 0, "blocks": _digests(s)}
                for s in sections
            ],
        },
        separators=(",", ":"),
    ).encode()
    seal = blake3(header).digest()
    lead = _LEAD.pack(MAGIC, len(header), seal) + header
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(lead + _padding(len(lead)))
            for section in sections:
                file.write(section)
                file.write(_padding(len(memoryview(section).cast("B")) if len(section) else 0))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    return seal.hex()


def _sync_directory(directory: Path) -> None:
    with contextlib.suppress(OSError):  # not every system lets a directory be opened
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read(path: Path) -> Derived:
    """Maps the file and verifies it: sizes, the header's seal, and the digests of every section up to 256 MiB
    (of larger ones, 64 blocks drawn at random). Raises Unusable."""
    try:
        with open(path, "rb") as file:
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise Unusable(f"cannot be opened: {error}") from None
    if len(mapped) < _LEAD.size:
        raise Unusable("torn")
    magic, length, seal = _LEAD.unpack(mapped[: _LEAD.size])
    if magic != MAGIC or length > _MAX_HEADER or _LEAD.size + length > len(mapped):
        raise Unusable("not a derived file of this format")
    header = bytes(mapped[_LEAD.size : _LEAD.size + length])
    if blake3(header).digest() != seal:
        raise Unusable("the header is damaged")
    parsed = json.loads(header)
    if parsed["format"] != FORMAT:
        raise Unusable(f"format {parsed['format']}")
    sections = _sections(mapped, _LEAD.size + length, parsed["sections"])
    return Derived(parsed["facts"], sections, seal.hex())


def _sections(mapped: memoryview, at: int, described: list[dict[str, Any]]) -> list[memoryview]:
    at += -at % _ALIGN
    found = []
    for section in described:
        end = at + section["bytes"]
        if end > len(mapped):
            raise Unusable("torn")
        view = mapped[at:end]
        _verify(view, section["blocks"])
        found.append(view)
        at = end + -end % _ALIGN
    return found


def _verify(view: memoryview, blocks: list[str]) -> None:
    if len(blocks) != -(-len(view) // _BLOCK):
        raise Unusable("the header is damaged")
    chosen: Sequence[int] = range(len(blocks))
    if len(blocks) > _CHECK_WHOLE:
        chosen = secrets.SystemRandom().sample(range(len(blocks)), _CHECK_WHOLE)
    for i in chosen:
        if blake3(view[i * _BLOCK : (i + 1) * _BLOCK]).hexdigest(16) != blocks[i]:
            raise Unusable("a section is damaged")
