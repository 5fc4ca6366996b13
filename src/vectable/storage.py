"""Storage: from a URL to the ports behind it: rows, bookkeeping, cached vectors."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from vectable.config import Settings
from vectable.core.schema import new_id
from vectable.errors import InvalidInput
from vectable.interfaces import Backend, StateStore, VectorCache

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_FORMS = "a directory, sqlite:///DIRECTORY, or memory:"


@dataclass(slots=True)
class Storage:
    """What a URL opens: the ports, and what only this kind of storage can do."""

    url: str
    backend: Backend
    state: StateStore
    cache: VectorCache
    identity: str
    directory: Path | None
    """Where the database's files are, if anywhere."""
    index_directory: Path | None
    close: Callable[[], Awaitable[None]]
    backup: Callable[..., Awaitable[None]] | None = None


def database_directory(url: str | os.PathLike[str]) -> Path | None:
    """The directory of an embedded database; None for `memory:`, which ends with the process.

    A path object is a directory, and so is text: `sqlite:///a/b` is the absolute path /a/b, percent-decoded,
    `sqlite:a/b` a relative one; write a directory whose name begins like a scheme as `./name:`. Raises
    InvalidInput, with the known forms, for anything else."""
    text = os.fspath(url) if isinstance(url, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text.strip() or "\x00" in text:
        raise InvalidInput(f"{url!r} is not the address of a database", hint=f"give {_FORMS}")
    found = _SCHEME.fullmatch(text) if isinstance(url, str) else None
    if found is None:
        return Path(text)
    scheme, rest = found[1].lower(), found[2]
    if scheme == "memory":
        if rest not in ("", "//"):
            raise InvalidInput("a database in memory has no path", hint="write memory:")
        return None
    if scheme != "sqlite":
        raise InvalidInput(f"there is no backend {scheme!r}", hint=f"give {_FORMS}")
    path = unquote(rest)
    if path.startswith("//"):
        path = "/" + path[3:].lstrip("/") if path[3:].strip("/") and path[2] == "/" else ""
    if not path or "\x00" in path:
        raise InvalidInput(f"{text!r} names no directory", hint=f"give {_FORMS}")
    return Path(path)


async def open_storage(url: str | os.PathLike[str], settings: Settings) -> Storage:
    """Opens what `url` names, creating it when missing. Raises BackendError's kinds, InvalidInput."""
    directory = database_directory(url)
    return await (_open_memory() if directory is None else _open_sqlite(directory, settings))


async def _open_memory() -> Storage:
    from vectable.backends.memory import MemoryBackend
    from vectable.state.memory import MemoryStateStore, MemoryVectorCache

    backend = MemoryBackend()
    await backend.open()
    return Storage(
        url="memory:",
        backend=backend,
        state=MemoryStateStore(),
        cache=MemoryVectorCache(),
        identity=new_id(),
        directory=None,
        index_directory=None,
        close=backend.close,
    )


async def _open_sqlite(directory: Path, settings: Settings) -> Storage:
    from vectable.backends.sqlite import SqliteBackend
    from vectable.drivers.sqlite import SqliteDriver
    from vectable.state.sqlite import SqliteStateStore, SqliteVectorCache

    driver = SqliteDriver(
        directory,
        synchronous="full" if settings.synchronous == "full" else "normal",
        busy_timeout_s=settings.busy_timeout_ms / 1000,
    )
    backend = SqliteBackend(driver)
    await backend.open()

    async def close() -> None:
        await backend.close()
        await driver.close()

    return Storage(
        url=str(driver.directory),
        backend=backend,
        state=SqliteStateStore(driver),
        cache=SqliteVectorCache(driver),
        identity=driver.identity,
        directory=driver.directory,
        index_directory=driver.index_directory,
        close=close,
        backup=driver.backup,
    )
