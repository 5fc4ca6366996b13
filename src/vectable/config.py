"""Settings: from arguments, then VECTABLE_* variables, then plain names, then defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from vectable.errors import InvalidInput, did_you_mean

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_PLAIN_NAMES = {
    "port": "PORT",
    "text_model": "TEXT_MODEL",
    "cache_max_size": "CACHE_MAX_SIZE",
    "cache_ttl_ms": "CACHE_TTL",
    "fake_embeddings": "APP_USE_FAKE_EMBEDDINGS",
}
_RANGES = {
    "port": (0, 65_535),
    "search_threads": (1, 1_024),
    "embed_batch_tokens": (1, 1 << 30),
    "postgres_pool_max": (1, 10_000),
    "postgres_pool_wait_ms": (1, 3_600_000),
    "postgres_statement_timeout_ms": (0, (1 << 31) - 1),
}
"""Numbers that may not be just any from 0."""


def default_cache_directory() -> Path:
    """Where derived model files are kept: $XDG_CACHE_HOME/vectable, else ~/.cache/vectable."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vectable"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Sizes in bytes, times in milliseconds."""

    db: str = field(default="./vectable-data", repr=False)
    """Not shown: the address of a PostgreSQL database may hold a password."""
    host: str = "127.0.0.1"
    port: int = 3000
    insecure: bool = False
    text_model: str = DEFAULT_MODEL
    cache_max_size: int = 10_000
    """Entries in the memory tier of the vector cache."""
    cache_ttl_ms: int = 3_600_000
    persistent_cache_bytes: int = 4 << 30
    """Size of the vector cache kept on disk; the oldest entries go first."""
    inline_cells: int = 100
    """Changed cells embedded within the write; more become a job."""
    embed_batch_tokens: int = 1_024
    """Padded tokens handed to a model at once."""
    resident_bytes: int = 1 << 30
    """Memory for resident indexes; 0 turns them off."""
    search_threads: int = 2
    synchronous: str = "full"
    """full: a power cut loses nothing acknowledged; normal: faster, kill -9 loses nothing."""
    busy_timeout_ms: int = 30_000
    postgres_pool_min: int = 5
    """Connections to PostgreSQL that stay open; never more than `postgres_pool_max`."""
    postgres_pool_max: int = 20
    """Connections to PostgreSQL at most, for each process."""
    postgres_pool_wait_ms: int = 10_000
    """How long a call waits for a connection while all are in use; then it fails, overloaded."""
    postgres_statement_timeout_ms: int = 60_000
    """Longest statement in PostgreSQL; 0: any. Index builds and the like have no such limit."""
    postgres_rows_schema: str = "public"
    """The schema of a PostgreSQL database in which the rows of tables are put."""
    request_timeout_ms: int = 30_000
    cache_dir: str = ""
    model_paths: bool = True
    """Whether a model may be named by a local path. The server turns this off: names come from others."""
    fake_embeddings: bool = False
    preload: bool = True
    """Whether a server loads the default text model as it starts, where its weights are on this machine."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **arguments: Any) -> Self:
        """Settings with `arguments` (None: not given) over the environment over the defaults.
        Raises InvalidInput naming the variable that cannot be read."""
        environ = os.environ if environ is None else environ
        values = {
            name: os.fspath(value) if isinstance(value, os.PathLike) else value
            for name, value in arguments.items()
            if value is not None
        }
        known = {f.name: f for f in fields(cls)}
        for name in sorted(values.keys() - known.keys()):
            raise InvalidInput(f"unknown setting {name!r}", hint=did_you_mean(name, known, "settings"))
        for name, each in known.items():
            for variable in (f"VECTABLE_{name.upper()}", _PLAIN_NAMES.get(name, "")):
                if name not in values and environ.get(variable):
                    values[name] = _read(variable, environ[variable], each.default)
        return cls(**values)

    def __post_init__(self) -> None:
        """Raises InvalidInput for a value that does not fit its setting."""
        for each in fields(self):
            _check(each.name, getattr(self, each.name), type(each.default))

    @property
    def cache_directory(self) -> Path:
        """`cache_dir`, else the user's cache directory."""
        return Path(self.cache_dir) if self.cache_dir else default_cache_directory()


def _check(name: str, value: Any, kind: type) -> None:
    if type(value) is not kind:
        wanted = {bool: "true or false", int: "a whole number"}.get(kind, "text")
        raise InvalidInput(f"the setting {name!r} is {wanted}, not {type(value).__name__}")
    if isinstance(value, int) and kind is int:
        least, most = _RANGES.get(name, (0, 1 << 62))
        if not least <= value <= most:
            raise InvalidInput(f"the setting {name!r} is {value}", hint=f"give {least} to {most}")
    if name == "synchronous" and value not in ("full", "normal"):
        raise InvalidInput(f"the setting 'synchronous' is {value!r}", hint="use full or normal")


def _read(variable: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() in {"1", "true", "yes", "on"}:
            return True
        if text.lower() in {"0", "false", "no", "off"}:
            return False
        raise InvalidInput(f"{variable}={text!r} is neither true nor false", hint="write 1 or 0")
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise InvalidInput(f"{variable}={text!r} is not a whole number") from None
    return text
