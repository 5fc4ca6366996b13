"""Where settings are taken from: arguments, variables of the environment, a file of variables, defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vectable.config.about import About, check_value
from vectable.config.settings import described_settings
from vectable.errors import InvalidInput, did_you_mean

PREFIX = "VECTABLE_"
ENV_FILE = f"{PREFIX}ENV_FILE"
"""Names a file of variables; the command line reads `.env` where it is not set."""
USUAL_FILE = ".env"
"""The file of variables that is read where there is one, and missed by nobody where there is none."""
NOT_SETTINGS = frozenset(
    PREFIX + name for name in ("DEBUG", "ENV_FILE", "METRICS_DIRECTORY", "TEST_POSTGRES_URL")
)
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as it is in force. `source`: "argument", a variable's name, "FILE: NAME" or "default"."""

    name: str
    value: Any
    source: str


def force(environ: Mapping[str, str] | None = None, **arguments: Any) -> list[Setting]:
    """Every setting with its value and where that comes from. Raises InvalidInput for an unknown argument, an
    unreadable file of variables, and a variable that cannot be read."""
    environ = os.environ if environ is None else environ
    given = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in arguments.items()
        if value is not None
    }
    known = [name for name, _, _ in described_settings()]
    for name in sorted(given.keys() - set(known)):
        raise InvalidInput(f"unknown setting {name!r}", hint=did_you_mean(name, known, "settings"))
    file = environ.get(ENV_FILE, "")
    kept = variables_of(file) if file else {}
    found = []
    for name, about, default in described_settings():
        if name in given:
            found.append(Setting(name, given[name], "argument"))
            continue
        variable, value, source = _look_up(name, about, ((environ, ""), (kept, f"{file}: ")))
        taken = default if variable is None else _read(variable, value, source, default, about)
        if variable is not None:
            check_value(f"{source}={value!r}", taken, about)
        found.append(Setting(name, taken, source))
    return found


def _look_up(
    name: str, about: About, places: tuple[tuple[Mapping[str, str], str], ...]
) -> tuple[str | None, str, str]:
    for variables, prefix in places:
        for variable in filter(None, (f"{PREFIX}{name.upper()}", about.plain)):
            if value := variables.get(variable):
                return variable, value, f"{prefix}{variable}"
    return None, "", "default"


def variables_of(file: str) -> dict[str, str]:
    """The variables of a file of them; `.env` need not be there. `$` means itself. Raises InvalidInput for a
    file that cannot be read, or that was named and is not there, and for a line of it that names one of our
    variables and cannot be read: what others wrote there is theirs."""
    path = Path(file)
    if not path.is_file():
        if path == Path(USUAL_FILE):
            return {}
        raise InvalidInput(
            f"{file} cannot be read: it is no file", hint=f"{ENV_FILE} names it; empty, none is read"
        )
    from dotenv.parser import parse_stream

    try:
        with path.open(encoding="utf-8-sig") as stream:
            found = list(parse_stream(stream))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidInput(f"{file} cannot be read: {reason}", hint=f"{ENV_FILE}= reads none") from None
    ours = [*(about.plain for _, about, _ in described_settings() if about.plain), rf"{PREFIX}[A-Z_]+"]
    for each in found:
        named = re.search(rf"\b({'|'.join(ours)})\b", each.original.string) if each.error else None
        if named:
            raise InvalidInput(
                f"{file}: {named[0]} in line {each.original.line} cannot be read",
                hint="write NAME=VALUE, the value between two quotes or none",
            )
    return {each.key: each.value or "" for each in found if each.key}


def unknown_variables(environ: Mapping[str, str] | None = None) -> Iterator[tuple[str, str]]:
    """Variables with our prefix that set nothing, in the environment and the file of variables, each with a
    hint: most are misspelt."""
    environ = os.environ if environ is None else environ
    file = environ.get(ENV_FILE, "")
    known = {f"{PREFIX}{name.upper()}" for name, _, _ in described_settings()}
    for variable in sorted({*environ, *(variables_of(file) if file else ())}):
        if variable.startswith(PREFIX) and variable not in known | NOT_SETTINGS:
            yield variable, did_you_mean(variable, known, "variables")


def _read(variable: str, text: str, source: str, default: Any, about: About) -> Any:
    if about.words and variable == about.plain:
        return about.words.get(text.lower(), about.words[""])
    if isinstance(default, bool):
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise InvalidInput(f"{source}={text!r} is neither true nor false", hint="write 1 or 0")
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise InvalidInput(f"{source}={text!r} is not a whole number") from None
    return text
