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
        card, load_ms, cosines = run(_load(model))
        if as_json:
            near = {"cosine_to_fp32": [round(c, 6) for c in cosines]} if cosines else {}
            write_json({**_fields(card), "load_ms": round(load_ms, 1), **near})
        else:
            write(f"{card.id}: {card.dimensions} dimensions, loaded in {load_ms / 1000:.1f} s")
            if cosines:
                least, mean = min(cosines), sum(cosines) / len(cosines)
                write(
                    f"cosine to the same model in fp32 on ONNX Runtime, {len(cosines)} texts: "
                    f"at least {least:.5f}, {mean:.5f} on average"
                )
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


_COMPARED = (
    "hello",
    "A man is eating a piece of bread.",
    "How do I slow down a function that runs on every scroll event?",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "SELECT name, price FROM products WHERE price < 20 ORDER BY price",
    "The invoice of 3 March 2024 over 1,249.50 EUR has not been paid.",
    "def add(a, b):\n    return a + b",
    "In thermodynamics, the entropy of an isolated system never decreases over time. " * 6,
)
"""Short and long, prose and code: what a precision below fp32 is measured on."""


async def _load(model: str) -> tuple[ModelCard, float, list[float]]:
    """The model's card, how long it took to load, and, of a model on OpenVINO, the cosines to its fp32."""
    from vectable.cli.options import open_database
    from vectable.handles.progress import fetching

    async with await open_database("memory:") as database:
        embedder = database.engine.embedder
        with fetching(embedder.models, model):
            card, load_ms = await embedder.preload(model)
        if card.runtime != "openvino":
            return card, load_ms, []
        mine = await embedder.encode(_COMPARED, model)
        reference = await embedder.encode(_COMPARED, model.partition("?")[0])
        return card, load_ms, [float(c) for c in (mine.vectors * reference.vectors).sum(axis=1)]
