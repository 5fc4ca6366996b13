"""The settings as documentation: the table of docs/configuration.md and the file `.env.example`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vectable.config.about import About, value_text
from vectable.config.settings import described_settings
from vectable.config.sources import PREFIX

_TITLES = {
    "server": "Server",
    "access": "Access",
    "logs": "Logs, metrics and traces",
    "models": "Models",
    "cache": "Vector cache",
    "tables": "Tables and searches",
    "sqlite": "SQLite",
    "postgresql": "PostgreSQL",
}


def settings_tables() -> str:
    """Every setting, by section, as tables in Markdown."""
    parts = []
    for section, title in _TITLES.items():
        rows = "\n".join(
            _row(name, about, default)
            for name, about, default in described_settings()
            if about.section == section
        )
        head = "| flag | variable | default | |\n|---|---|---|---|"
        parts.append(f"### {title}\n\n{head}\n{rows}")
    return "\n\n".join(parts)


def _row(name: str, about: About, default: Any) -> str:
    flag = name.replace("_", "-")
    flags = f"`--{flag}`, `--no-{flag}`" if isinstance(default, bool) else f"`--{flag}`"
    variables = f"`{PREFIX}{name.upper()}`" + (f", `{about.plain}`" if about.plain else "")
    shown = about.default_text or value_text(default, about)
    bounds = f" One of {', '.join(f'`{c}`' for c in about.choices)}." if about.choices else ""
    return f"| {flags if about.flag else 'none'} | {variables} | {shown} | {about.text}{bounds} |"


def env_example() -> str:
    """The file `.env.example`: every variable, commented out, with its default."""
    return "".join(_env_lines())


def _env_lines() -> Iterator[str]:
    yield (
        "# Settings of the vectable command. Copied to .env, this file is read from the directory the\n"
        "# command runs in. Flags and variables of the environment win over it. What is written out are\n"
        "# the defaults.\n"
    )
    for section, title in _TITLES.items():
        yield f"\n# --- {title} ---\n"
        for name, about, default in described_settings():
            if about.section == section:
                also = f" Also: {about.plain}." if about.plain else ""
                yield f"\n# {about.text}{also}\n#{PREFIX}{name.upper()}={_written(default)}\n"


def _written(value: Any) -> str:
    return ("1" if value else "0") if isinstance(value, bool) else str(value)
