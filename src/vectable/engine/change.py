"""What the catalogue keeps of a table: its definition, and the step of it that is under way."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, field_validator

from vectable.core.schema import Column, Index, Table, Version
from vectable.errors import Conflict, InvalidInput, PrivilegeMissing, Unsupported
from vectable.interfaces import SchemaChange

REVISION = "catalog"
"""State key touched by every change, so that one cheap read tells whether anything changed."""
LEAVING = "leaving"
"""State key that is there from when the last attached table was let go of, and everything of ours is to go as
soon as nobody has the database open, until a table is made."""
REFUSALS = (Conflict, InvalidInput, Unsupported)
"""What storage says of a change that it will not make, now or later: nothing of it has happened."""
Kind = Literal[
    "create_table", "drop_table", "add_column", "drop_column", "stage_version", "discard_version",
    "create_index", "drop_index", "redefine",
]  # fmt: skip


class Change(BaseModel):
    """A step of a definition on its way: `table` is the definition after it."""

    kind: Kind
    table: Table
    column: Column | None = None
    version: Version | None = None
    index: Index | None = None

    def for_storage(self) -> SchemaChange:
        """The part of it storage needs."""
        return SchemaChange(self.kind, self.column, self.version, self.index)

    def is_refused_by(self, error: Exception, ours: bool) -> bool:
        """Whether storage says that it will not happen. What this process may not do, another one may, which
        began it; only what was begun here (`ours`) has to be given up for that."""
        return isinstance(error, REFUSALS) or (ours and isinstance(error, PrivilegeMissing))


class Record(BaseModel):
    """What the state store keeps per table: the settled definition, and the change under way."""

    table: Table | None = None
    next: Change | None = None

    @field_validator("table")
    @classmethod
    def _has_its_key(cls, table: Table | None) -> Table | None:
        if table is not None and not {c.id for c in table.columns}.issuperset(table.key):
            raise ValueError("a column of the key is missing")
        return table


def record_key(table_id: str) -> str:
    """Where a table's record is in the state store."""
    return f"table/{table_id}"


def name_key(table: Table) -> str:
    """What holds the table's name for it there."""
    return f"name/{table.namespace}/{table.name}"
