"""What every backend refuses, in the same words."""

from __future__ import annotations

from vectable.core.key import KeyBytes, decode_key, key_to_url
from vectable.core.schema import Table
from vectable.errors import KeyExists, StaleGeneration, TableNotFound

_NAMED_KEYS = 10


def gone(what: str) -> StaleGeneration:
    """The error for a definition that names what is no longer (or not yet) stored."""
    return StaleGeneration(f"{what} of this definition is not stored", hint="read the definition again")


def changed(table: Table) -> StaleGeneration:
    """The error for a definition older than the one stored."""
    return StaleGeneration(f"table {table.full_name!r} has changed", hint="read the definition again")


def not_found(table: Table) -> TableNotFound:
    """The error for a table that is not stored."""
    return TableNotFound(f"table {table.full_name!r} does not exist", hint="it may have been dropped")


def key_exists(table: Table, *taken: KeyBytes) -> KeyExists:
    """The error of puts whose keys must be absent and are not; at least one, some perhaps twice."""
    shown = [key_to_url(decode_key(key)) for key in dict.fromkeys(taken)]
    more = f" (and {len(shown) - 1} more of the given keys)" if len(shown) > 1 else ""
    return KeyExists(
        f"table {table.full_name!r} already has a row with the key {shown[0]}{more}",
        hint="upsert, or skip keys that exist",
        context={"keys": shown[:_NAMED_KEYS]},
    )
