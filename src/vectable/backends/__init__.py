"""Backends by URL. Adapters are imported when they are first asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from urllib.parse import unquote

from vectable.errors import InvalidInput

_BACKENDS = {
    "sqlite": ("vectable.backends.sqlite", "SqliteBackend"),
    "memory": ("vectable.backends.memory", "MemoryBackend"),
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_FORMS = "write a directory, sqlite:///absolute/directory, or memory:"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is: the backend's name and, for sqlite, the directory."""

    scheme: str
    path: str


def parse_address(url: str) -> Address:
    """A path is sqlite, and so is `sqlite:///a/b`, the absolute path /a/b, percent-decoded; `sqlite:a/b` is
    relative. `memory:` is a database that ends with the process. Raises InvalidInput with the known forms."""
    if not isinstance(url, str) or not url.strip() or "\x00" in url:
        raise InvalidInput(f"{url!r} is not the address of a database", hint=_FORMS)
    found = _SCHEME.fullmatch(url)
    if found is None:
        return Address("sqlite", url)
    scheme, rest = found[1].lower(), found[2]
    if scheme not in _BACKENDS:
        known = ", ".join(sorted(_BACKENDS))
        raise InvalidInput(f"there is no backend {scheme!r}", hint=f"known: {known}; {_FORMS}")
    if scheme == "memory":
        if rest not in ("", "//"):
            raise InvalidInput("a database in memory has no path", hint="write memory:")
        return Address("memory", "")
    path = unquote(rest)
    if path.startswith("//"):
        path = "/" + path[3:].lstrip("/") if path[3:].strip("/") and path[2] == "/" else ""
    if not path:
        raise InvalidInput(f"{url!r} names no directory", hint=_FORMS)
    return Address(scheme, path)


def load_backend(scheme: str) -> Any:
    """The backend class of that name: `SqliteBackend(driver)`, `MemoryBackend()`. Raises InvalidInput."""
    if scheme not in _BACKENDS:
        raise InvalidInput(f"there is no backend {scheme!r}", hint=f"known: {', '.join(sorted(_BACKENDS))}")
    module, name = _BACKENDS[scheme]
    return getattr(import_module(module), name)
