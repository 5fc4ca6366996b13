"""Recipes: how a row becomes the content of a cell, and the content key that names it."""

from __future__ import annotations

import string
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from blake3 import blake3

from vectable.core.schema import Column, ColumnType, Table, check_name
from vectable.errors import InvalidInput

RECIPE = "content/1"
"""Version of the rendering below; part of every content key, so a change of it embeds anew."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as ids of the tokenizer of the model it is for, with or without its special tokens."""

    ids: tuple[int, ...]


Content = str | bytes | Tokens
"""Text, an encoded image, or the tokens of a text."""

_TEXTUAL = frozenset(
    {ColumnType.STRING, ColumnType.INT, ColumnType.FLOAT, ColumnType.BOOL, ColumnType.STRINGS}
)


@lru_cache(maxsize=1024)
def parse_template(template: str) -> tuple[tuple[str, str | None], ...]:
    """(literal text, column name or None) pairs of a template like "{title}\\n{teaches}"; `{{` and `}}` are
    braces. Raises InvalidInput for anything but plain column names."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InvalidInput(
            f"the template is not valid: {error}", hint="write {column}; {{ for a brace"
        ) from None
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if spec or conversion:
            raise InvalidInput(
                f"the template formats {name!r}", hint="only plain column names, without formats, are allowed"
            )
        check_name(name, "column in a template")
    return tuple((literal, name) for literal, name, _, _ in parts)


def template_columns(template: str) -> list[str]:
    """The column names a template uses, in order, each once."""
    return list(dict.fromkeys(name for _, name in parse_template(template) if name is not None))


def check_template(template: str, table: Table) -> bool:
    """Whether the template is an image column alone (True) or text (False).
    Raises UnknownColumn or InvalidInput when a column is missing or cannot be embedded."""
    names = template_columns(template)
    if not names:
        raise InvalidInput("the template uses no column", hint='write e.g. "{title}\\n{teaches}"')
    columns = [table.column(name) for name in names]
    if columns[0].type is ColumnType.IMAGE and template == "{" + columns[0].name + "}":
        return True
    for column in columns:
        if column.type not in _TEXTUAL:
            raise InvalidInput(
                f"column {column.name!r} holds {column.type.value} values, which cannot be embedded as text",
                hint="embed string, number, bool or string[] columns; an image column only by itself",
            )
    return False


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(value) if isinstance(value, list) else str(value)


def render(
    template: str, row: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> str | bytes | None:
    """The content of a row's cell; None (nothing to embed) when a source value is null and `defaults` (by
    column) names none, or the text is empty or only white space. An image column alone gives its bytes."""
    pieces: list[str] = []
    for literal, name in parse_template(template):
        pieces.append(literal)
        if name is None:
            continue
        value = row.get(name)
        if value is None and defaults:
            value = defaults.get(name)
        if value is None:
            return None
        if isinstance(value, bytes):
            return value
        pieces.append(_text(value))
    text = "".join(pieces)
    return text if text.strip() else None


def content_key(identity: str, prompt: str, content: Content) -> bytes:
    """32 bytes naming (model identity, recipe, purpose, content): blake3 over their length-prefixed bytes.
    The purpose enters as the prompt it puts before the content: purposes that share a prompt share entries.
    Raises InvalidInput for text that is not valid Unicode."""
    try:
        kind, body = _named(content)
    except UnicodeEncodeError:
        raise InvalidInput("the text holds a lone surrogate", hint="text must be valid Unicode") from None
    digest = blake3()
    for part in (identity.encode(), RECIPE.encode(), prompt.encode(), kind.encode(), body):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _named(content: Content) -> tuple[str, bytes]:
    if isinstance(content, str):
        return "text", content.encode("utf-8")
    if isinstance(content, Tokens):
        return "tokens", struct.pack(f"<{len(content.ids)}q", *content.ids)
    return "image", content


def renamed_template(template: str, old: str, new: str) -> str:
    """The template with column `old` called `new`."""
    pieces = []
    for literal, name in parse_template(template):
        pieces.append(literal.replace("{", "{{").replace("}", "}}"))
        if name is not None:
            pieces.append("{" + (new if name == old else name) + "}")
    return "".join(pieces)


def source_template(column: Column) -> str:
    """The template that embeds one column as it is."""
    return "{" + column.name + "}"
