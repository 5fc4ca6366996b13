"""A flag for every setting, made from what the settings say of themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from vectable.config import described_settings
from vectable.config.about import About, value_text

F = TypeVar("F", bound=Callable[..., Any])


def settings_options(function: F) -> F:
    """A flag for every setting a server takes, but `--db`, as arguments of the settings' names; None where
    one was not given."""
    for name, about, default in reversed(described_settings()):
        if about.flag and name != "db":
            function = _option(name, about, default)(function)
    return function


def flag_of(name: str) -> str:
    """The flag of a setting."""
    return f"--{name.replace('_', '-')}"


def _option(name: str, about: About, default: Any) -> Callable[[F], F]:
    shown = about.default_text or value_text(default, about)
    text = f"{about.text}  [default: {shown}]"
    flag = flag_of(name)
    if isinstance(default, bool):
        return click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=text)
    kind: Any = str
    if isinstance(default, int):
        kind = click.IntRange(about.least, about.most)
    elif about.choices:
        kind = click.Choice(about.choices)
    metavar = name.rpartition("_")[2].upper() if kind is str else None
    if isinstance(default, int):
        metavar = {"bytes": "BYTES", "ms": "MS"}.get(about.unit, "N")
    return click.option(flag, name, type=kind, metavar=metavar, help=text)
