"""What every backend refuses, in the same words."""

from __future__ import annotations

from vectable.core.key import KeyBytes, decode_key, key_to_url
from vectable.core.schema import Table
from vectable.errors import KeyExists

_NAMED_KEYS = 10


def key_exists(table: Table, *taken: KeyBytes) -> KeyExists:
    """The error of puts whose keys must be absent and are not; at least one, some perhaps twice."""
    shown = [key_to_url(decode_key(key)) for key in dict.fromkeys(taken)]
    more = f" (and {len(shown) - 1} more of the given keys)" if len(shown) > 1 else ""
    return KeyExists(
        f"table {table.full_name!r} already has a row with the key {shown[0]}{more}",
        hint="upsert, or skip keys that exist",
        context={"keys": shown[:_NAMED_KEYS]},
    )
