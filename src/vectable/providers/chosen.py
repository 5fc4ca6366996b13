"""Models run by the runtime their name chooses: `NAME?runtime=openvino&precision=bf16`. Each choice is a
model of its own, with vectors, cache and versions of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from vectable.errors import ModelUnavailable, VectableError
from vectable.interfaces import EmbeddingProvider, ModelCard
from vectable.providers.catalog import (
    KNOWN_MODELS,
    OPENVINO,
    SENTENCE_TRANSFORMERS,
    RuntimeName,
    canonical_name,
    model_not_found,
)
from vectable.providers.model_config import read_json, read_model_config
from vectable.providers.weights import Located, hub_snapshot, locate, looks_like_path

_STATE_DIMENSIONS = (
    "out_features",
    "word_embedding_dimension",
    "embedding_dimension",
    "projection_dim",
    "hidden_size",
    "dim",
)


def chosen_card(name: RuntimeName, plain: Callable[[str, bool], ModelCard], allow_paths: bool) -> ModelCard:
    """The card of a model whose runtime its name chooses; `plain(model, allow_paths)` is the card without
    that choice. Raises as `resolve`."""
    if name.runtime == SENTENCE_TRANSFORMERS:
        found = _any_form(name.model, allow_paths)
        known = KNOWN_MODELS.get(found.id) if found is not None else None
        card = plain(name.model, allow_paths) if found is None or known is not None else _described(found)
        card = replace(card, cached=found is not None)
    else:
        card = plain(name.model, allow_paths)
    return replace(
        card, id=str(replace(name, model=card.id)), runtime=name.runtime, precision=name.precision, note=""
    )


def load_chosen(
    name: RuntimeName,
    fetch: Callable[[], Located],
    cache_dir: Path,
    *,
    allow_paths: bool,
    allow_download: bool,
    threads: int,
    executor: Executor | None,
) -> EmbeddingProvider:
    """The model, ready to embed; `fetch` gets its files where they are not on this machine. Raises as
    `load`."""
    if name.runtime == OPENVINO:
        from vectable.providers.openvino import load_openvino

        located = locate(name.model, allow_paths=allow_paths) or fetch()
        return load_openvino(
            replace(located, id=str(replace(name, model=located.id))),
            cache_dir,
            precision=name.precision,
            threads=threads,
            executor=executor,
        )
    from vectable.providers.sentence_transformers import load_sentence_transformers

    found = _any_form(name.model, allow_paths)
    if found is None and looks_like_path(name.model):
        raise model_not_found(name.model, "it is not a directory", hint="give the directory of the model")
    model = found.id if found is not None else canonical_name(name.model)
    return load_sentence_transformers(
        str(replace(name, model=model)),
        found.directory if found is not None else None,
        allow_download=allow_download,
        executor=executor,
    )


def _any_form(name: str, allow_paths: bool) -> Located | None:
    """The model's files, in whatever form they are."""
    found = locate(name, allow_paths=allow_paths)
    if found is not None or looks_like_path(name):
        return found
    model = canonical_name(name)
    snapshot = hub_snapshot(model, lambda directory: (directory / "config.json").is_file())
    return Located(model, snapshot, "model-hub cache") if snapshot is not None else None


def _described(located: Located) -> ModelCard:
    """As far as the files of a model that only its own library understands say."""
    try:
        config = read_model_config(located.directory)
        dimensions, tokens = config.dimensions, config.max_tokens
    except VectableError:
        dimensions, tokens = _guessed(located.directory)
    return ModelCard(
        id=located.id,
        dimensions=dimensions,
        max_tokens=tokens,
        type="document" if tokens >= 512 else "sentence",
        cached=True,
    )


def _guessed(directory: Path) -> tuple[int, int]:
    """Dimensions, from the last module that states them, and the token limit."""
    try:
        modules: list[Any] = json.loads((directory / "modules.json").read_bytes())
        folders = [str(module["path"]) for module in modules]
    except (OSError, ValueError, KeyError, TypeError):
        folders = [""]
    for folder in reversed(folders):
        config = read_json(directory / folder / "config.json")
        for name in _STATE_DIMENSIONS:
            if isinstance(config.get(name), int):
                limit = read_json(directory / "sentence_bert_config.json").get("max_seq_length")
                return config[name], limit if isinstance(limit, int) else 512
    raise ModelUnavailable(f"the configuration in {directory} does not state the model's dimensions")
