"""`vectable models`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from vectable.cli.options import json_option, run
from vectable.cli.output import write, write_columns, write_json

if TYPE_CHECKING:
    from vectable.interfaces import ModelCard


@click.command(
    "models",
    epilog="""\b
Examples:
  vectable models
  vectable models all-mpnet-base-v2     fetch it if need be, load it, say how long that took""",
)
@click.argument("model", required=False)
@click.option("--db", metavar="URL", hidden=True, expose_value=False, help="Accepted, as everywhere.")
@json_option
def models_command(model: str | None, as_json: bool) -> None:
    """List the embedding models known here, and whether their weights are on this machine. With MODEL: load
    it, fetching its weights when they are missing."""
    if model is not None:
        card, load_ms = run(_load(model))
        if as_json:
            write_json({**_fields(card), "load_ms": round(load_ms, 1)})
        else:
            write(f"{card.id}: {card.dimensions} dimensions, loaded in {load_ms / 1000:.1f} s")
        return
    from vectable.config import Settings
    from vectable.providers.remote import library_of
    from vectable.state.memory import MemoryStateStore

    cards = library_of(Settings.from_environment(), MemoryStateStore()).known_models()
    if as_json:
        write_json({"models": [_fields(card) for card in cards]})
        return
    write_columns(
        {
            "model": [c.id for c in cards],
            "dimensions": [c.dimensions for c in cards],
            "tokens": [c.max_tokens for c in cards],
            "type": [c.type for c in cards],
            "runtime": [c.runtime for c in cards],
            "precision": [c.precision for c in cards],
            "licence": [c.licence for c in cards],
            "on this machine": [c.cached for c in cards],
        }
    )
    for card in cards:
        if card.note:
            write(f"{card.id}: {card.note}")


def _fields(card: ModelCard) -> dict[str, Any]:
    return {**dataclasses.asdict(card), "modalities": list(card.modalities)}


async def _load(model: str) -> tuple[ModelCard, float]:
    from vectable.cli.options import open_database
    from vectable.handles.progress import fetching

    async with await open_database("memory:") as database:
        embedder = database.engine.embedder
        with fetching(embedder.models, model):
            return await embedder.preload(model)
