"""What goes to standard error: failures and notes, coloured only where somebody sees colours."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import click


def report(
    code: str, detail: str, hint: str | None, as_json: bool, context: Mapping[str, Any] | None = None
) -> None:
    """One failure: a sentence and a hint, or with `as_json` one line of JSON {"error", "code", "hint"?,
    "context"?}."""
    if as_json:
        found = {"error": detail, "code": code, "hint": hint, "context": dict(context or {})}
        text = json.dumps({k: v for k, v in found.items() if v}, default=str)
    else:
        text = f"{painted(sys.stderr, 'Error:', fg='red', bold=True)} {_capitalised(detail)}"
        if hint:
            text += f"\n  {painted(sys.stderr, 'Hint:', fg='cyan')} {hint}"
    _write(text)


def note(text: str) -> None:
    """A remark for people, beside what was asked for."""
    _write(text)


def _write(text: str) -> None:
    try:
        click.echo(_printable(text), err=True)
    except OSError:
        pass  # nobody listens


def _printable(text: str) -> str:
    """Without control characters a terminal would obey, which names and values may hold; our colours stay."""
    return "".join(c if c.isprintable() or c in "\n\x1b" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _capitalised(text: str) -> str:
    # Not an address or a path, which the reader may want to copy.
    first = text[:1] if "/" in text.split(" ", 1)[0] else text[:1].upper()
    return first + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def painted(stream: TextIO, text: str, **style: Any) -> str:
    """`text` with colours where `stream` is a terminal and NO_COLOR is not set."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return click.style(text, **style)
