"""Storage: from a URL to the ports behind it: rows, bookkeeping, cached vectors."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vectable.config import Settings
from vectable.core.schema import new_id
from vectable.errors import InvalidInput
from vectable.interfaces import Backend, StateStore, VectorCache

_SCHEMES = "a directory, sqlite:///DIRECTORY, or memory:"


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
    """The directory of an embedded database; None for `memory:`. Raises InvalidInput for an unknown
    scheme."""
    text = os.fspath(url)
    scheme = urlsplit(text).scheme.lower() if ":" in text[:20] and not Path(text).exists() else ""
    if scheme == "memory" or text == "memory:":
        return None
    if scheme in ("sqlite", "file"):
        path = unquote(text.split(":", 1)[1])
        if path.startswith("///"):
            path = path[2:] if not path.startswith("////") else path[3:]
        return Path(path)
    if len(scheme) > 1:
        raise InvalidInput(f"{scheme}: is not a kind of database known here", hint=f"give {_SCHEMES}")
    if not text:
        raise InvalidInput("the database has no path", hint=f"give {_SCHEMES}")
    return Path(text)


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

    if settings.synchronous not in ("full", "normal"):
        raise InvalidInput(f"synchronous is {settings.synchronous!r}", hint="use full or normal")
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
