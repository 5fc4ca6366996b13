"""Names in SQL: the one place that quotes identifiers."""

from __future__ import annotations

from vectable.errors import InvalidInput

NAME_BYTES = 63
"""Longest identifier PostgreSQL keeps; what is longer it cuts without a word, so it never gets there."""
SCHEMA = "vectable"
"""The schema that holds everything of ours."""


def quote(name: str) -> str:
    """`name` as an SQL identifier, whatever it contains. Raises InvalidInput for what no identifier can be:
    empty, over 63 bytes of UTF-8, or with U+0000."""
    size = len(name.encode("utf-8", "surrogatepass"))
    if not 0 < size <= NAME_BYTES or "\x00" in name:
        raise InvalidInput(f"{name!r} cannot be a name in PostgreSQL", hint="1 to 63 bytes, without U+0000")
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    """`schema.name`, both quoted."""
    return f"{quote(schema)}.{quote(name)}"


def ours(name: str) -> str:
    """`name` in the schema that holds everything of ours."""
    return qualified(SCHEMA, name)


def literal(text: str) -> str:
    """`text` as an SQL string constant, for the few statements that take no parameters (and for commands
    shown to people)."""
    escaped = text.replace("'", "''")
    return "E'" + escaped.replace("\\", "\\\\") + "'" if "\\" in text else f"'{escaped}'"
