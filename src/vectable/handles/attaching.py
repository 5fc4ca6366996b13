"""Attaching: from what people say to what the engine is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vectable.core.context import Context
from vectable.core.schema import Table
from vectable.errors import InvalidInput
from vectable.handles.progress import fetching

if TYPE_CHECKING:
    from vectable.database import Database


async def attach(
    engine: Database,
    context: Context,
    table: str,
    *,
    embed: str | None,
    model: str | None,
    name: str | None,
    column: str | None,
    metric: str,
    schema: str | None,
    poll: bool,
    updated_at: str | None,
) -> tuple[Table, str]:
    """The definition, and the job that fills it. See `AsyncDatabase.attach`."""
    wanted: dict[str, Any] | None = None
    if embed is not None:
        template = "{" in embed
        wanted = {
            "column_name": column or ("embedding" if template else f"{embed}_embedding"),
            "template": embed if template else None,
            "source_column": None if template else embed,
            "model": model,
            "metric": metric,
        }
    elif model is not None or column is not None:
        raise InvalidInput(
            "nothing is named that is to be embedded", hint="say which column, or which template, to embed"
        )
    with fetching(engine.embedder.models, model):
        found = await engine.attacher.attach(
            context, table, place=schema, name=name, column=wanted, poll=poll, updated_at=updated_at
        )
    return found.table, found.job
