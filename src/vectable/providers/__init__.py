"""Models by name: a lazy registry. Importing it loads no runtime; `load` does.

A name is resolved by: local path (where allowed), model-hub cache, installed weights package, hub download.
With VECTABLE_FAKE_EMBEDDINGS=1 (or APP_USE_FAKE_EMBEDDINGS) the hashing provider stands in for every model,
at that model's dimensions and under an identity of its own, "hashing/384?for=…".
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from vectable.config import Settings, default_cache_directory
from vectable.errors import ModelUnavailable
from vectable.interfaces import EmbeddingProvider, ModelCard
from vectable.providers.catalog import (
    EFFICIENTNET,
    HASHING,
    KNOWN_MODELS,
    RUNTIMES,
    HashingName,
    ModelType,
    canonical_name,
    hashing_name,
    model_not_found,
    runtime_name,
)
from vectable.providers.chosen import chosen_card, load_chosen
from vectable.providers.clip_files import find_clip, is_clip
from vectable.providers.model_config import read_model_config
from vectable.providers.weights import Located, locate, looks_like_path

if TYPE_CHECKING:
    from vectable.providers.hub import Progress

__all__ = ["canonical_name", "fake_embeddings", "known_models", "load", "resolve"]

_DOCUMENT_TOKENS = 512
_HASHING_TOKENS = 8192


def fake_embeddings() -> bool:
    """Whether the environment asks for hashing in place of every model."""
    return Settings.from_environment().fake_embeddings


def known_models(fake: bool | None = None) -> list[ModelCard]:
    """The models that can be named here, the default first. Looks at the disk, not at the network. `fake`
    overrides the environment."""
    fake = fake_embeddings() if fake is None else fake
    servable = [m.id for m in KNOWN_MODELS.values() if m.runtime in RUNTIMES or fake]
    return [resolve(name, fake=fake) for name in (*servable, HASHING)]


def resolve(name: str, *, allow_paths: bool = False, fake: bool | None = None) -> ModelCard:
    """What is known of a model, without loading it or using the network. The `id` is the canonical name
    (`load(card.id)` gives the same model). `fake` overrides the environment. Raises InvalidInput (not a model
    name), ModelNotFound (neither a known model nor on this machine), ModelUnavailable (damaged files)."""
    hashing = hashing_name(name)
    if hashing is not None:
        return _hashing_card(hashing)
    chosen = runtime_name(name)
    card = chosen_card(chosen, _real_card, allow_paths) if chosen else _real_card(name, allow_paths)
    if fake if fake is not None else fake_embeddings():
        return ModelCard(
            id=str(HashingName(card.dimensions, card.id.partition("?")[0])),
            dimensions=card.dimensions,
            max_tokens=card.max_tokens,
            type=card.type,
            cached=True,
            runtime=HASHING,
            truncatable=card.truncatable,
            precision="fp32",
        )
    return card


def load(
    name: str,
    *,
    cache_dir: str | Path | None = None,
    allow_paths: bool = False,
    allow_download: bool = True,
    fake: bool | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
    executor: Executor | None = None,
) -> EmbeddingProvider:
    """The model called `name`, ready to embed. Synchronous and slow (0.3-6 s, longer with a download): call
    it on a worker thread.

    `cache_dir`: where derived files are kept (default: `models` in the user's cache directory for Vectable).
    `allow_paths`: the name may be a directory; never set it for names that came over the network.
    `progress(file, bytes_done, bytes_total)` hears of a download. `threads`: those of one forward pass (2).
    `executor`: a single-threaded one to run passes on; default: one of the provider's own.

    Raises InvalidInput (not a model name), ModelNotFound, ModelUnavailable (known, but its weights cannot be
    had; says where they were sought), Unsupported (a kind of model not run here)."""
    card = hashing_name(name) or _stand_in(name, allow_paths, fake)
    if card is not None:
        return _hashing(card)
    from vectable.providers.runtime import DEFAULT_THREADS

    directory = Path(cache_dir) if cache_dir is not None else default_cache_directory() / "models"
    chosen, threads = runtime_name(name), threads or DEFAULT_THREADS
    if chosen is not None:
        return load_chosen(
            chosen,
            lambda: _download(chosen.model, allow_download, progress),
            directory,
            allow_paths=allow_paths,
            allow_download=allow_download,
            threads=threads,
            executor=executor,
        )
    located = locate(name, allow_paths=allow_paths) or _download(name, allow_download, progress)
    return _loader(located)(located, directory, threads=threads, executor=executor)


def _loader(located: Located) -> Callable[..., EmbeddingProvider]:
    if is_clip(located.directory):
        from vectable.providers.clip import load_clip

        return load_clip
    if located.id == EFFICIENTNET:
        from vectable.providers.efficientnet import load_efficientnet

        return load_efficientnet
    from vectable.providers.onnx import load_onnx

    return load_onnx


def _stand_in(name: str, allow_paths: bool, fake: bool | None) -> HashingName | None:
    if not (fake if fake is not None else fake_embeddings()):
        return None
    return hashing_name(resolve(name, allow_paths=allow_paths, fake=True).id)


def _hashing(name: HashingName) -> EmbeddingProvider:
    from vectable.providers.hashing import HashingProvider

    card = _hashing_card(name)
    return HashingProvider(
        name.dimensions,
        max_tokens=card.max_tokens,
        stands_for=name.model,
        takes=frozenset(card.modalities),
    )


def _hashing_card(name: HashingName) -> ModelCard:
    known = KNOWN_MODELS.get(name.model or "")
    # A stand-in takes what its model takes: what works with it must work without it. Models that are not
    # known here by name embed texts.
    unknown: ModelType = "sentence" if name.model else "multimodal"
    return ModelCard(
        id=str(name),
        dimensions=name.dimensions,
        max_tokens=known.max_tokens if known else _HASHING_TOKENS,
        type=known.type if known else unknown,
        cached=True,
        licence="apache-2.0",
        runtime=HASHING,
        truncatable=known.truncatable if known else False,
        precision="fp32",
    )


def _real_card(name: str, allow_paths: bool) -> ModelCard:
    located = locate(name, allow_paths=allow_paths)
    known = KNOWN_MODELS.get(located.id if located else "" if looks_like_path(name) else canonical_name(name))
    if known is not None:
        return ModelCard(
            id=known.id,
            dimensions=known.dimensions,
            max_tokens=known.max_tokens,
            type=known.type,
            cached=located is not None,
            licence=known.licence,
            runtime=known.runtime,
            truncatable=known.truncatable,
            precision=known.precision,
            note=known.note,
        )
    if located is None:
        raise model_not_found(name, "it is neither known nor on this machine")
    return _local_card(located)


def _local_card(located: Located) -> ModelCard:
    clip = find_clip(located.directory)
    if clip is not None:
        return ModelCard(
            id=located.id,
            dimensions=clip.dimensions,
            max_tokens=clip.max_tokens,
            type="multimodal",
            cached=True,
            runtime="clip",
            precision="fp32",
        )
    config = read_model_config(located.directory)
    kind: ModelType = "document" if config.max_tokens >= _DOCUMENT_TOKENS else "sentence"
    return ModelCard(
        id=located.id,
        dimensions=config.dimensions,
        max_tokens=config.max_tokens,
        type=kind,
        cached=True,
        runtime="onnx",
        precision="fp32",
    )


def _download(name: str, allowed: bool, progress: Progress | None) -> Located:
    if looks_like_path(name):
        raise model_not_found(name, "it is not a directory", hint="give the directory that holds config.json")
    if not allowed:
        if (model := canonical_name(name)) in KNOWN_MODELS:
            raise ModelUnavailable(
                f"the weights of {model} are not on this machine, and downloading is not allowed",
                hint="download them first: vectable models",
                context={"model": model},
            )
        raise model_not_found(name, "it is neither known nor on this machine")
    from vectable.providers.hub import download

    return download(canonical_name(name), progress)
