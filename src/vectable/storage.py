"""Storage: from a URL to the ports behind it: rows, bookkeeping, cached vectors."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from vectable.config import Settings
from vectable.core.foreign import ForeignTables
from vectable.core.schema import new_id
from vectable.errors import BackendError, InvalidInput, Unsupported
from vectable.interfaces import Backend, StateStore, VectorCache

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

BACKENDS = "vectable.backends"
"""The group of entry points by which other packages bring backends: the name is the URL's scheme, the object
an async function of the URL and the settings that gives a `Storage`."""
_OWN = ("memory", "sqlite", "postgres", "postgresql")
_PASSWORD = re.compile(r"(//[^/@:?#]*):[^/@]*@")
_MAY_NAME_A_SERVER = re.compile(r"^postgres|^\s*[a-z_]+\s*=|\bpassword\s*=", re.IGNORECASE)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_FORMS = "a directory, sqlite:///DIRECTORY, postgresql://USER@HOST/DATABASE, or memory:"


@dataclass(slots=True)
class Storage:
    """What a URL opens: the ports, and what only this kind of storage can do."""

    url: str
    """For people: without a password."""
    backend: Backend
    state: StateStore
    cache: VectorCache
    identity: str
    directory: Path | None
    """Where the database's files are, if anywhere."""
    index_directory: Path | None
    close: Callable[[], Awaitable[None]]
    backup: Callable[..., Awaitable[None]] | None = None
    stored_bytes: Callable[[], Awaitable[int]] | None = None
    """What tables, vectors, bookkeeping and cache take up in a server; None where files say so."""
    foreign: ForeignTables | None = None
    """Tables of others beside ours; None where there can be none."""
    leave: Callable[[], Awaitable[bool]] | None = None
    """In place of `close`: removes, where no table is left, what was made for all of them."""
    pool: Callable[[], dict[str, int]] | None = None
    """Connections to a server: how many there are and how busy; None where there is no server."""
    beside: bool = False
    """`state` is kept beside the rows: `get_unchanged` sees both at one moment."""
    crowded: bool = False
    """Several machines may be at work on it, each with a copy of the model."""


def in_server(url: str | os.PathLike[str]) -> bool:
    """Whether `url` names a database of a PostgreSQL server, or of a backend that another package brings. A
    path object never does: write a directory whose name begins like a scheme or like `host=` as `./name`."""
    if not isinstance(url, str) or url.partition(":")[0].lower() in ("memory", "sqlite"):
        return False
    return _in_postgres(url) or _brought(url) is not None


def _in_postgres(url: str) -> bool:
    # What asyncpg costs is paid by those who name a server.
    if not _MAY_NAME_A_SERVER.search(url):
        return False
    from vectable.drivers.postgres import is_postgres

    return is_postgres(url)


def shown(url: str) -> str:
    """`url` for people and logs: a server's without its password, others as they are."""
    if not in_server(url):
        return url
    if not _in_postgres(url):
        return _PASSWORD.sub(r"\1@", url)
    from vectable.drivers.postgres import Address

    return Address.parse(url).display


async def exists(url: str | os.PathLike[str]) -> bool:
    """Whether there is a database of ours at `url`. Creates nothing. Raises InvalidInput, and what connecting
    to a server raises. Of a database that another package's backend opens nothing is known before: True."""
    if in_server(url):
        if not _in_postgres(str(url)):
            return True
        from vectable.drivers.postgres import is_prepared

        return await is_prepared(str(url))
    directory = database_directory(url)
    return directory is not None and (directory / "vectable.db").exists()


def database_directory(url: str | os.PathLike[str]) -> Path | None:
    """The directory of an embedded database; None for `memory:`, which ends with the process.

    A path object is a directory, and so is text: `sqlite:///a/b` is the absolute path /a/b, percent-decoded,
    `sqlite:a/b` and `sqlite:///./a/b` are relative ones; write a directory whose name begins like a scheme
    as `./name:`. Raises InvalidInput, with the known forms, for anything else."""
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
        raise InvalidInput(f"there is no backend {scheme!r}", hint=f"give {_FORMS}{_others()}")
    path = unquote(rest)
    if path.startswith(("///./", "///../")):
        path = path[3:]  # nobody means the root by that
    if path.startswith("//"):
        path = "/" + path[3:].lstrip("/") if path[3:].strip("/") and path[2] == "/" else ""
    if not path or "\x00" in path:
        raise InvalidInput(f"{text!r} names no directory", hint=f"give {_FORMS}")
    return Path(path)


async def open_storage(url: str | os.PathLike[str], settings: Settings) -> Storage:
    """Opens what `url` names, creating it when missing (a server's database, never: only what is ours in it).
    Raises BackendError's kinds, InvalidInput."""
    if in_server(url):
        point = None if _in_postgres(str(url)) else _brought(str(url))
        return await (_open_postgres if point is None else _opener(point))(str(url), settings)
    directory = database_directory(url)
    return await (_open_memory() if directory is None else _open_sqlite(directory, settings))


def _brought(url: str) -> EntryPoint | None:
    """Who opens databases of the URL's scheme, where an installed package says so; ours are ours."""
    found = _SCHEME.fullmatch(url)
    if found is None or found[1].lower() in _OWN:
        return None
    from importlib.metadata import entry_points

    return next(iter(entry_points(group=BACKENDS, name=found[1].lower())), None)


def _opener(point: EntryPoint) -> Callable[[str, Settings], Awaitable[Storage]]:
    try:
        opener: Callable[[str, Settings], Awaitable[Storage]] = point.load()
    except (ImportError, AttributeError) as error:
        package = point.dist.name if point.dist is not None else point.value
        raise BackendError(
            f"the backend {point.name!r} of the package {package} cannot be loaded: {error}",
            hint=f"reinstall {package}, or ask its author",
        ) from error
    return opener


def _others() -> str:
    from importlib.metadata import entry_points

    return "".join(f", or {point.name}:…" for point in entry_points(group=BACKENDS))


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
        beside=True,
        cache=SqliteVectorCache(driver),
        identity=driver.identity,
        directory=driver.directory,
        index_directory=driver.index_directory,
        close=close,
        backup=driver.backup,
    )


async def _open_postgres(url: str, settings: Settings) -> Storage:
    from dataclasses import asdict

    from vectable.backends.postgres import PostgresBackend, PostgresForeignTables
    from vectable.drivers.postgres import Address, PostgresDriver
    from vectable.state.postgres import PostgresStateStore, PostgresVectorCache

    address = Address.parse(url)
    most = int(address.pool.get("pool_max", settings.postgres_pool_max))
    driver = PostgresDriver(
        address,
        pool_least=min(int(address.pool.get("pool_min", settings.postgres_pool_min)), most),
        pool_most=most,
        pool_wait_s=address.pool.get("pool_timeout", settings.postgres_pool_wait_ms / 1000),
        statement_timeout_ms=settings.postgres_statement_timeout_ms,
        rows_schema=settings.postgres_rows_schema,
    )
    backend = PostgresBackend(driver)

    async def close() -> None:
        await backend.close()
        await driver.close()

    async def backup(*_: object, **__: object) -> None:
        raise Unsupported(
            f"{driver.address.display} is backed up as every PostgreSQL database is",
            hint="pg_dump --format=custom --file=FILE DATABASE; pg_restore brings it back, vectors included",
        )

    try:
        await driver.open()
        await backend.open()
    except BaseException:
        await close()
        raise
    # Every copy and every restored backup is a database of its own: what it goes on with is another history.
    identity = f"{driver.identity}-{driver.incarnation.place}"
    return Storage(
        url=driver.address.display,
        backend=backend,
        state=PostgresStateStore(driver),
        beside=True,
        cache=PostgresVectorCache(driver),
        identity=identity,
        directory=None,
        index_directory=settings.cache_directory / "indexes" / identity,
        close=close,
        backup=backup,
        stored_bytes=driver.stored_bytes,
        foreign=PostgresForeignTables(driver),
        leave=driver.leave,
        pool=lambda: {
            **asdict(driver.pool_status()),
            "statement_timeout_ms": settings.postgres_statement_timeout_ms,
        },
        crowded=True,
    )
