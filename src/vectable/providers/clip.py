"""CLIP models, fp32 on ONNX Runtime: texts and images to vectors of one space."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from vectable.errors import ModelUnavailable, Unsupported
from vectable.interfaces import ModelIdentity
from vectable.providers.clip_files import ClipFiles, find_clip, lacking
from vectable.providers.clip_graph import CLIP_GRAPH_VERSION, Tower, build_clip, tower_config
from vectable.providers.graph import GRAPH_FILE, WEIGHTS_FILE
from vectable.providers.graph_cache import cached_graph
from vectable.providers.images import read_preprocessing
from vectable.providers.runtime import DEFAULT_THREADS, open_session, refuse_quantised
from vectable.providers.tokenization import Tokenization
from vectable.providers.towers import ImageTower, TextTower, TowerProvider
from vectable.providers.weights import Located, checked_sha256

_TOWERS: tuple[Tower, Tower] = ("text", "image")
_EMBEDS = {"text": "text_embeds", "image": "image_embeds"}
_TAKES = {"text": ("input_ids", "attention_mask"), "image": ("pixel_values",)}


def load_clip(
    located: Located,
    cache_dir: Path,
    *,
    threads: int = DEFAULT_THREADS,
    executor: Executor | None = None,
) -> TowerProvider:
    """Loads both towers of a CLIP model; takes 0.5-3 s (the first time graphs are built, up to 6 s). Built
    graphs are kept in `cache_dir`. Raises ModelUnavailable (missing, damaged), Unsupported (a kind of model
    that is not run here)."""
    files = find_clip(located.directory)
    if files is None:
        raise Unsupported(
            f"the CLIP model in {located.directory} lacks {lacking(located.directory)}",
            hint="put it there: weights are run in fp32, in one file each, neither sharded nor quantised",
            context={"model": located.id},
        )
    checksum = _checksum(located, files)
    edge = int(tower_config(files.config, "image")["image_size"])
    preprocessing = read_preprocessing(files.root, edge)
    tokenization = Tokenization(files.root, files.max_tokens, tower_config(files.config, "text"))
    try:
        text, image = (_open(located, files, checksum, tower, cache_dir, threads) for tower in _TOWERS)
    except OSError as error:
        raise ModelUnavailable(f"the graphs of {located.id} cannot be built: {error}") from None
    fingerprint = f"clip-fp32:{checksum}:{preprocessing.fingerprint}:{files.max_tokens}"
    return TowerProvider(
        ModelIdentity(located.id, fingerprint),
        files.dimensions,
        TextTower(text, tokenization),
        ImageTower(image, preprocessing),
        max_tokens=files.max_tokens,
        normalizes=files.normalizes,
        executor=executor,
    )


def _checksum(located: Located, files: ClipFiles) -> str:
    sums = [checked_sha256(located, path) for path in files.files]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def _open(
    located: Located, files: ClipFiles, checksum: str, tower: Tower, cache_dir: Path, threads: int
) -> Any:
    if files.form == "towers":
        graph = files.files[_TOWERS.index(tower)]
        refuse_quantised(graph)
        return open_session(graph, threads)
    (source,) = files.files
    build: Callable[[Path], None]
    if files.form == "joint":
        refuse_quantised(source)

        def build(target: Path) -> None:
            cut_tower(source, tower, target)
    else:

        def build(target: Path) -> None:
            build_clip(source, files.config, tower, target)

    name = located.directory.name if located.source == "local path" else located.id
    name = f"{name}-{checksum[:32]}-{tower}-v{CLIP_GRAPH_VERSION}"
    with cached_graph(cache_dir, name, build) as directory:
        return open_session(directory / GRAPH_FILE, threads)


def cut_tower(source: Path, tower: Tower, target: Path) -> None:
    """Writes one tower of a graph of both into the directory `target`: run whole, each would wait for the
    other. Raises Unsupported where the graph has no such tower, ModelUnavailable where it cannot be read."""
    import onnx
    from onnx.utils import Extractor

    try:
        model = onnx.load(str(source))
    except Exception as error:  # the library raises the parser's errors and plain ones
        raise ModelUnavailable(f"{source} cannot be read: {error}") from None
    given = {one.name for one in model.graph.input}
    takes = [name for name in _TAKES[tower] if name in given]
    try:
        part = Extractor(model).extract_model(takes, [_EMBEDS[tower]])
    except ValueError as error:
        raise Unsupported(f"{source} has no {tower} tower to be run alone: {error}") from None
    onnx.save_model(
        part, str(target / GRAPH_FILE), save_as_external_data=True, location=WEIGHTS_FILE, size_threshold=1024
    )
