"""How far a copy is, kept in the destination's state store: what a copy that was killed goes on from."""

from __future__ import annotations

from pydantic import BaseModel

from vectable.core.schema import Table
from vectable.engine.stored import stored_model
from vectable.interfaces import StateStore


class CopyRecord(BaseModel):
    """One table on its way, or arrived. Rows up to the key `after` are in the destination; what changed in
    the source after `mark` may have to be copied again."""

    source: Table
    """The source's definition when copying began."""
    table: Table
    """The destination's, under which storage holds the rows."""
    mark: str
    after: str = ""
    """Hex."""
    copied: int = 0
    rows_done: bool = False
    done: bool = False
    """Checked, and in the destination's catalogue."""
    target_mark: str | None = None
    """The destination's mark when it was: what it has changed after that is its own."""


class Records:
    """The records of copies from one source."""

    def __init__(self, state: StateStore, source: str) -> None:
        self._state = state
        self._source = source

    def key(self, table_id: str) -> str:
        """Where the record of the source's table is kept."""
        return f"copy/{self._source}/{table_id}"

    async def find(self, table_id: str) -> CopyRecord | None:
        """The record of the source's table; None when it was never copied here."""
        key = self.key(table_id)
        entry = (await self._state.get([key])).get(key)
        return None if entry is None else stored_model(CopyRecord, key, entry)

    async def save(self, record: CopyRecord) -> None:
        """Durable when it returns."""
        await self._state.commit(puts={self.key(record.source.id): self.written(record)})

    @staticmethod
    def written(record: CopyRecord) -> bytes:
        """As it is kept."""
        return record.model_dump_json().encode()
