"""Where the parts of a CLIP model lie in its directory: in the transformers or sentence-transformers layout,
as ONNX graphs, one safetensors file, or a PyTorch checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vectable.errors import ModelUnavailable, Unsupported
from vectable.providers.model_config import read_json

Form = Literal["towers", "weights", "joint"]

FOLDERS = ("", "0_CLIPModel/")
"""Where its files may lie: the second in older sentence-transformers models."""
TOKENIZERS: tuple[tuple[str, ...], ...] = (("tokenizer.json",), ("vocab.json", "merges.txt"))
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
FORMS: tuple[tuple[Form, tuple[str, ...]], ...] = (
    ("towers", ("onnx/text_model.onnx", "onnx/vision_model.onnx")),
    ("towers", ("text_model.onnx", "vision_model.onnx")),
    ("weights", ("model.safetensors",)),
    ("weights", ("pytorch_model.bin",)),
    ("joint", ("onnx/model.onnx",)),
    ("joint", ("model.onnx",)),
)
"""What the weights may be, the preferred first: a graph for each tower; weights that graphs are built from;
one graph of both towers, which is cut in two."""
_WEIGHTS = (".onnx", ".safetensors", ".bin", ".pt")
_PROJECTION = 512
_TEXT_TOKENS = 77


@dataclass(frozen=True, slots=True)
class ClipFiles:
    """A CLIP model's directory: `files` are one graph or file of weights, or the text and the image
    tower's."""

    root: Path
    config: Mapping[str, Any]
    form: Form
    files: tuple[Path, ...]
    normalizes: bool

    @property
    def dimensions(self) -> int:
        """Of the space both towers project into."""
        return _whole(self.config.get("projection_dim"), _PROJECTION)

    @property
    def max_tokens(self) -> int:
        """Of a text, special tokens included."""
        text = {**(self.config.get("text_config") or {}), **(self.config.get("text_config_dict") or {})}
        return _whole(text.get("max_position_embeddings"), _TEXT_TOKENS)


def _whole(stated: Any, default: int) -> int:
    if stated is None:
        return default
    if not isinstance(stated, int) or stated < 1:
        raise ModelUnavailable(f"the model's config.json says {stated!r} where it should state a size")
    return stated


def is_clip(directory: Path) -> bool:
    """Whether the directory's config.json is a CLIP model's. Raises ModelUnavailable for a damaged one."""
    return _root(directory) is not None


def find_clip(directory: Path) -> ClipFiles | None:
    """The parts of the CLIP model in `directory`; None where it is another model, or not whole. Raises
    ModelUnavailable (damaged configuration), Unsupported (modules that are not run here)."""
    found = _root(directory)
    if found is None:
        return None
    folder, config = found
    root = directory / folder
    chosen = choose(lambda name: (root / name).is_file())
    if chosen is None:
        return None
    form, names = chosen
    return ClipFiles(root, config, form, tuple(root / name for name in names), _normalizes(directory))


def choose(has: Callable[[str], bool]) -> tuple[Form, tuple[str, ...]] | None:
    """The preferred form among the files for which `has(name)` is true, with its files; None without weights
    or tokenizer."""
    if not any(all(has(part) for part in parts) for parts in TOKENIZERS):
        return None
    return next(((form, names) for form, names in FORMS if all(has(name) for name in names)), None)


def lacking(directory: Path) -> str:
    """What the CLIP model in `directory` lacks to be run here, in words."""
    found = _root(directory)
    root = directory / (found[0] if found else "")

    def has(name: str) -> bool:
        return (root / name).is_file()

    lacks = []
    if not any(all(has(part) for part in parts) for parts in TOKENIZERS):
        lacks.append("a tokenizer (tokenizer.json, or vocab.json with merges.txt)")
    if not any(all(has(name) for name in names) for _, names in FORMS):
        half = next((names for _, names in FORMS if any(has(name) for name in names)), None)
        lacks.append(
            "weights (model.safetensors, pytorch_model.bin, onnx/model.onnx, or onnx/text_model.onnx with "
            "onnx/vision_model.onnx)"
            if half is None
            else " ".join(f"{name}, the other tower" for name in half if not has(name))
        )
        others = sorted(f.relative_to(root).as_posix() for f in root.rglob("*") if f.suffix in _WEIGHTS)
        unread = [name for name in others if not any(name in names for _, names in FORMS)]
        if unread:
            lacks[-1] += f"; {', '.join(unread[:4])} {'is' if len(unread) == 1 else 'are'} not read"
    return " and ".join(lacks)


def needed(names: Collection[str]) -> tuple[str, list[str]] | None:
    """Of a repository with these files, the folder a CLIP model lies in and the weights to fetch; None where
    there is none."""
    for folder in FOLDERS:
        inside = {name.removeprefix(folder) for name in names if name.startswith(folder)}
        if inside.isdisjoint(PREPROCESSORS):
            continue
        chosen = choose(inside.__contains__)
        if chosen is not None:
            return folder, [f"{folder}{name}" for name in chosen[1]]
    return None


def _root(directory: Path) -> tuple[str, dict[str, Any]] | None:
    for folder in FOLDERS:
        config = read_json(directory / folder / "config.json")
        if config.get("model_type") == "clip" or "CLIPModel" in (config.get("architectures") or ()):
            return folder, config
    return None


def _normalizes(directory: Path) -> bool:
    path = directory / "modules.json"
    if not path.is_file():
        return False
    try:
        kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in json.loads(path.read_bytes())]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelUnavailable(f"modules.json of the model in {directory} cannot be read: {error}") from None
    if other := set(kinds) - {"CLIPModel", "Transformer", "Normalize"}:
        raise Unsupported(
            f"the model in {directory} is built of {', '.join(kinds)}, which is not run here",
            hint=f"CLIP models without {', '.join(sorted(other))} are",
        )
    return "Normalize" in kinds
