"""Built graphs on disk: made once per weights and graph version, written whole, checked at every load."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from vectable.providers.graph import GRAPH_FILE, WEIGHTS_FILE

Build = Callable[[Path], None]
"""Writes a graph into the directory given."""

_SEAL = "blake3"
_UNFINISHED = ".unfinished-"
_ABANDONED_AFTER_S = 3600.0


@contextmanager
def cached_graph(cache_dir: Path, name: str, build: Build) -> Iterator[Path]:
    """The directory that holds the graph called `name`, built by `build` unless `cache_dir` has a whole one;
    the graph may be loaded within the `with`. A damaged copy is replaced. Where `cache_dir` cannot be
    written, the graph is built in a temporary directory. Several processes may do this at once."""
    target = cache_dir / re.sub(r"[^A-Za-z0-9._-]+", "_", name)
    if not _whole(target):
        try:
            _build_into(target, build)
        except OSError:
            if not _whole(target):  # a second builder may have won the race
                with TemporaryDirectory(prefix="vectable-graph-", ignore_cleanup_errors=True) as scratch:
                    build(Path(scratch))
                    yield Path(scratch)
                return
    yield target


def _build_into(target: Path, build: Build) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    unfinished = Path(mkdtemp(prefix=_UNFINISHED, dir=target.parent))
    try:
        build(unfinished)
        (unfinished / _SEAL).write_text(_checksum(unfinished))
        for path in unfinished.iterdir():
            _flush(path)
        if target.exists() and not _whole(target):
            target.rename(unfinished.with_name(unfinished.name + "-damaged"))
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(unfinished.with_name(unfinished.name + "-damaged"), ignore_errors=True)


def _whole(directory: Path) -> bool:
    try:
        return (directory / _SEAL).read_text() == _checksum(directory)
    except (OSError, UnicodeDecodeError):
        return False


def _checksum(directory: Path) -> str:
    from blake3 import blake3

    digest = blake3()
    for name in (GRAPH_FILE, WEIGHTS_FILE):
        digest.update_mmap(directory / name)
        digest.update(b"\x00")
    return digest.hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(cache_dir: Path) -> None:
    """Removes what killed builders left behind."""
    for path in cache_dir.glob(_UNFINISHED + "*"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(path, ignore_errors=True)
        except FileNotFoundError:
            continue
