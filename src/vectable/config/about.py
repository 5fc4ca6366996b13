"""What is to be known of one setting beside its name and default: for flags, checks and the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

from vectable.errors import InvalidInput

T = TypeVar("T", str, int, bool)
Section = Literal["server", "access", "logs", "models", "cache", "tables", "sqlite", "postgresql"]
_MOST = 1 << 62


@dataclass(frozen=True, slots=True)
class About:
    """`plain`: a variable without our prefix that means the same; `words` says what its values stand for,
    where those are not the setting's own (a word not listed: the first setting named)."""

    section: Section
    text: str
    plain: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    least: int = 0
    most: int = _MOST
    choices: tuple[str, ...] = ()
    unit: Literal["", "bytes", "ms"] = ""
    default_text: str = ""
    """What a default that is no plain value means, for people."""
    flag: bool = True
    """Whether a server takes it at all."""
    address: bool = False
    """The value is the address of a database, shown without its password."""


def setting(default: T, section: Section, text: str, **more: Any) -> T:
    """A field of `Settings` with what is to be known of it."""
    about = About(section, text, **more)
    # As dataclasses.field, the default takes the place of the description in the class.
    described: Any = field(default=default, metadata={"about": about}, repr=not about.address)
    return cast("T", described)


def value_text(value: str | int | bool, about: About) -> str:
    """A value for people: "1 GiB", "3600000 ms", "on"."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if about.unit == "bytes" and isinstance(value, int):
        for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
            if value and value % (1 << power) == 0:
                return f"{value >> power} {unit}"
        return f"{value} B"
    if about.unit == "ms":
        return f"{value} ms"
    return str(value) or "none"


def check_value(said: str, value: Any, about: About) -> None:
    """Raises InvalidInput for a value out of its bounds; its message begins with `said`, who said what."""
    counts = isinstance(value, int) and not isinstance(value, bool)
    if counts and not about.least <= value <= about.most:
        raise InvalidInput(f"{said} is out of bounds", hint=f"give {about.least} to {about.most}")
    if about.choices and value not in about.choices:
        raise InvalidInput(f"{said} is no choice there is", hint=f"use {' or '.join(about.choices)}")
