"""What is kept of an attached table beside its definition: enough to find the table of others again."""

from __future__ import annotations

from pydantic import BaseModel

from vectable.backends.postgres.layout import physical
from vectable.core.recipe import template_columns
from vectable.core.schema import Foreign, Table
from vectable.drivers.postgres import ours


class Attached(BaseModel):
    """`vectable.tables.attached`. Columns are named by our ids."""

    foreign: Foreign
    key: tuple[str, ...]
    key_types: tuple[str, ...]
    """What each part of their key is stored as, in the queue and beside our key."""
    sources: tuple[str, ...] = ()
    """Columns that some embedding column is made from."""
    views: dict[str, str] = {}
    """Names of the views for plain SQL, by the embedding column they show."""


def sidecar(table_id: str) -> str:
    """The table of ours with a line for each row of theirs that has been noticed, quoted."""
    return ours(sidecar_name(table_id))


def sidecar_name(table_id: str) -> str:
    """`sidecar`, unquoted, without its schema."""
    return physical("a", table_id)


def queue(table_id: str) -> str:
    """Where changes wait to be noticed, quoted."""
    return ours(physical("q", table_id))


def function_name(table_id: str) -> str:
    """What fills the queue when they write."""
    return physical("f", table_id)


def function(table_id: str) -> str:
    """`function_name`, quoted and in its schema."""
    return ours(function_name(table_id))


def sources(table: Table) -> tuple[str, ...]:
    """Ids of the columns some embedding column is made from, in the table's order."""
    used = {
        name
        for column in table.vector_columns
        if column.embedding is not None
        for name in template_columns(column.embedding.template)
    }
    return tuple(c.id for c in table.stored_columns if c.name in used)
