"""What the state store keeps of ours, read back: what cannot be understood is damage, and told as such."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vectable.errors import DatabaseDamaged
from vectable.interfaces import Entry

M = TypeVar("M", bound=BaseModel)


def damaged(key: str) -> DatabaseDamaged:
    """The error for an entry that is not as it was written."""
    return DatabaseDamaged(
        f"the database is damaged: its record {key!r} cannot be read",
        hint="restore a backup: vectable restore FILE",
        context={"record": key},
    )


def stored_model(kind: type[M], key: str, entry: Entry) -> M:
    """The object under `key`. Raises DatabaseDamaged."""
    try:
        return kind.model_validate_json(entry.value)
    except ValidationError as error:
        raise damaged(key) from error


def stored_facts(key: str, entry: Entry, *names: str) -> dict[str, Any]:
    """The JSON object under `key`, which has at least the fields `names`. Raises DatabaseDamaged."""
    try:
        facts = json.loads(entry.value)
    except ValueError as error:
        raise damaged(key) from error
    if not isinstance(facts, dict) or not facts.keys() >= set(names):
        raise damaged(key)
    return facts
