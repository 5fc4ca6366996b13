"""What a model's own files say: pooling, prompts, token limit, normalisation. Nothing is assumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vectable.errors import ModelUnavailable, Unsupported
from vectable.interfaces import Purpose

Pooling = Literal["mean", "cls", "max", "mean_sqrt_len"]
POOLINGS: tuple[Pooling, ...] = ("mean", "cls", "max", "mean_sqrt_len")

_POOLING_FLAGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
}
_PROMPT_NAMES: dict[Purpose, tuple[str, ...]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}
_UNBOUNDED_TOKENS = 512
"""Where no file states a limit."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A sentence-transformers text model as its files describe it. `max_tokens` counts special tokens."""

    dimensions: int
    max_tokens: int
    pooling: Pooling
    normalizes: bool
    lowercase: bool
    prompts: Mapping[Purpose, str]
    """By purpose; "" where the model has none."""
    transformer: Mapping[str, Any]
    """config.json of the transformer."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, {} where there is no such file. Raises ModelUnavailable if it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path.name} of the model in {path.parent} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ModelUnavailable(f"{path.name} of the model in {path.parent} does not hold an object")
    return content


def read_model_config(directory: Path) -> ModelConfig:
    """The configuration of the model in `directory` (sentence-transformers layout; a plain transformer is
    mean-pooled, as sentence-transformers does). Raises ModelUnavailable when files are missing or damaged,
    Unsupported for modules or pooling that are not run here."""
    transformer = read_json(directory / "config.json")
    if not transformer:
        raise ModelUnavailable(
            f"{directory} holds no config.json",
            hint="a model's directory (sentence-transformers, transformers, CLIP) has one beside its weights",
        )
    modules = _modules(directory)
    pooling_config = read_json(directory / modules["Pooling"] / "config.json") if "Pooling" in modules else {}
    sentence = read_json(directory / "sentence_bert_config.json")
    dimensions = pooling_config.get("word_embedding_dimension") or _hidden_size(transformer)
    if not isinstance(dimensions, int) or dimensions < 1:
        raise ModelUnavailable(f"the configuration in {directory} does not state the model's dimensions")
    return ModelConfig(
        dimensions=dimensions,
        max_tokens=_max_tokens(directory, sentence, transformer),
        pooling=_pooling(pooling_config),
        normalizes="Normalize" in modules,
        lowercase=bool(sentence.get("do_lower_case")),
        prompts=_prompts(read_json(directory / "config_sentence_transformers.json")),
        transformer=transformer,
    )


def _modules(directory: Path) -> dict[str, str]:
    """Module kind → folder, from modules.json; an absent file means a plain transformer."""
    path = directory / "modules.json"
    if not path.exists():
        return {"Transformer": ""}
    try:
        listed = json.loads(path.read_bytes())
        modules = {str(m["type"]).rsplit(".", 1)[-1]: str(m["path"]) for m in listed}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelUnavailable(f"modules.json of the model in {directory} cannot be read: {error}") from None
    other = modules.keys() - {"Transformer", "Pooling", "Normalize"}
    if other or "Transformer" not in modules:
        raise Unsupported(
            f"the model in {directory} is built of {', '.join(modules)}, which is not run here",
            hint="text models of Transformer, Pooling and Normalize modules are; others may run as "
            f"{directory}?runtime=sentence-transformers",
        )
    if any(Path(folder).is_absolute() or ".." in Path(folder).parts for folder in modules.values()):
        raise ModelUnavailable(f"modules.json of the model in {directory} names folders outside the model")
    return modules


def _hidden_size(transformer: Mapping[str, Any]) -> Any:
    return transformer.get("hidden_size") or transformer.get("dim")


def _max_tokens(directory: Path, sentence: Mapping[str, Any], transformer: Mapping[str, Any]) -> int:
    positions = transformer.get("max_position_embeddings")
    if isinstance(positions, int) and transformer.get("model_type") in {"roberta", "xlm-roberta", "mpnet"}:
        positions -= 2  # their positions start after the padding id
    tokenizer = read_json(directory / "tokenizer_config.json").get("model_max_length")
    limits = [n for n in (positions, tokenizer) if isinstance(n, int) and 2 < n < 1 << 20]
    stated = sentence.get("max_seq_length")
    if isinstance(stated, int) and stated > 2:
        return min(stated, positions) if isinstance(positions, int) and positions > 2 else stated
    return min(limits, default=_UNBOUNDED_TOKENS)


def _pooling(config: Mapping[str, Any]) -> Pooling:
    if not config:
        return "mean"
    if config.get("include_prompt") is False:
        raise Unsupported("this model leaves its prompt out of the pooling, which is not run here")
    named = config.get("pooling_mode")
    active = (
        [named]
        if isinstance(named, str)
        else [
            _POOLING_FLAGS.get(flag, flag)
            for flag, on in config.items()
            if flag.startswith("pooling_mode_") and on
        ]
    )
    for pooling in POOLINGS:
        if active == [pooling]:
            return pooling
    raise Unsupported(
        f"this model pools by {' and '.join(map(str, active)) or 'nothing'}, which is not run here",
        hint=f"poolings: {', '.join(POOLINGS)}",
    )


def _prompts(config: Mapping[str, Any]) -> dict[Purpose, str]:
    return purpose_prompts(config.get("prompts") or {}, config.get("default_prompt_name"))


def purpose_prompts(prompts: Mapping[str, str], default_name: str | None) -> dict[Purpose, str]:
    """Of a model's prompts by name, the one for each purpose; its default one, or "", where none is."""
    default = prompts.get(default_name or "", "")
    return {
        purpose: next((prompts[name] for name in names if prompts.get(name)), default)
        for purpose, names in _PROMPT_NAMES.items()
    }
