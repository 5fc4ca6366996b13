"""Any model that sentence-transformers runs, from the hub or a local path, on a GPU where there is one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from vectable.core.recipe import Tokens
from vectable.core.vectors import Matrix
from vectable.errors import InvalidInput, ModelUnavailable, ProviderError, Unsupported, VectableError
from vectable.interfaces import Item, ModelIdentity, Purpose
from vectable.providers.hub import offline
from vectable.providers.images import decode
from vectable.providers.model_config import purpose_prompts
from vectable.providers.passes import passes
from vectable.providers.weights import HUB_CACHE_VARIABLES, hub_snapshot
from vectable.providers.worker import Worker

_UNBOUNDED_TOKENS = 8192
"""Where the model states no limit."""
_FIRST_LOOK = 32
"""Characters of a text that are handed over per token allowed; the rest can only be cut off."""
_IMAGES_PER_PASS = 8
_CONFIGURATION = frozenset({".json", ".txt", ".model"})
_ELSEWHERE = frozenset({"onnx", "openvino", ".cache", ".git"})
"""Folders whose files other runtimes read."""


class SentenceTransformersProvider:
    """A loaded model. `embed` runs on one worker thread, so calls queue; everything may be called from any
    event loop or thread."""

    max_batch = 1024

    def __init__(self, id: str, fingerprint: str, model: Any, executor: Executor | None = None) -> None:
        """`model` is a sentence_transformers.SentenceTransformer; it loses the normalisation at its end,
        which the engine applies. An `executor` given must have a single thread and stays open at `close`."""
        self.normalizes = type(model[-1]).__name__ == "Normalize"
        if self.normalizes:
            del model[-1]
        self.model = ModelIdentity(id, fingerprint)
        self.dimensions = int(model.get_embedding_dimension() or model.encode("a", prompt="").shape[-1])
        self.max_tokens = int(model.max_seq_length or _UNBOUNDED_TOKENS)
        self.modalities = frozenset(kind for kind in ("text", "image") if kind in model.modalities)
        self.device = str(model.device)
        self._prompts = purpose_prompts(model.prompts or {}, model.default_prompt_name)
        self._model: Any = model
        self._worker = Worker(id, executor)

    def prompt(self, purpose: Purpose) -> str:
        """What is put before each text, from the model's own configuration; "" where it names none."""
        return self._prompts[purpose]

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Tokens of each text after truncation, special tokens included, without the prompt; an image: 1.
        Never raises: what `embed` will refuse counts as 1."""
        model, counted = self._model, [1] * len(items)
        texts = {i: self._cut(item) for i, item in enumerate(items) if isinstance(item, str)}
        if model is None or not texts:
            return counted
        try:
            found = model.tokenizer(list(texts.values()), truncation=True, max_length=self.max_tokens)
            for i, ids in zip(texts, found["input_ids"], strict=True):
                counted[i] = max(1, len(ids))
        except Exception:  # a text that is not Unicode; tokenizers of this library are of many kinds
            if len(items) > 1:
                return [self.lengths([item])[0] for item in items]
        return counted

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> Matrix:
        """float32[len(items), dimensions], before normalisation, in the order of `items`. A cancelled call
        stops before its next pass. Raises Unsupported (an item the model does not take), InvalidInput,
        ProviderError."""
        self._worker.require_open()
        for item in items:
            self._check(item)
        given, prompt = list(items), self.prompt(purpose)
        return await self._worker.run(lambda cancelled: self._run(given, prompt, cancelled))

    async def close(self) -> None:
        """Waits for queued work, then releases the model. Further calls of `embed` raise ProviderError."""
        await self._worker.close(self._release)

    def _release(self) -> None:
        self._model = None

    def _check(self, item: Item) -> None:
        if isinstance(item, Tokens):
            raise Unsupported(f"model {self.model.id} takes no token ids", hint="give it text")
        kind = "text" if isinstance(item, str) else "image"
        if kind not in self.modalities:
            takes = " and ".join(sorted(self.modalities))
            raise Unsupported(f"{self.model.id} does not embed {kind}s", hint=f"it takes {takes}")
        if isinstance(item, str):
            try:
                item.encode("utf-8")
            except UnicodeEncodeError:
                raise InvalidInput("the text is not valid Unicode: it holds a lone surrogate") from None

    def _cut(self, text: str) -> str:
        return text[: self.max_tokens * _FIRST_LOOK]

    def _run(self, items: list[Item], prompt: str, cancelled: threading.Event) -> Matrix:
        out = np.empty((len(items), self.dimensions), dtype=np.float32)
        texts = [i for i, item in enumerate(items) if isinstance(item, str)]
        images = [i for i, item in enumerate(items) if isinstance(item, bytes)]
        lengths = self.lengths([items[i] for i in texts])
        groups = [[texts[i] for i in group] for group in passes(lengths)]
        groups += [images[i : i + _IMAGES_PER_PASS] for i in range(0, len(images), _IMAGES_PER_PASS)]
        for rows in groups:
            if cancelled.is_set() or self._model is None:
                raise self._worker.stopped()
            given = [self._given(items[row]) for row in rows]
            out[rows] = self._encode(given, prompt if rows[0] in texts else "")
        return out

    def _given(self, item: Item) -> Any:
        return self._cut(item) if isinstance(item, str) else decode(item)  # type: ignore[arg-type]

    def _encode(self, given: list[Any], prompt: str) -> Any:
        try:
            return self._model.encode(
                given, prompt=prompt, batch_size=len(given), show_progress_bar=False, convert_to_numpy=True
            )
        except VectableError:
            raise
        except Exception as error:  # torch and the models' own code raise what they like
            raise ProviderError(f"the model failed on {len(given)} items: {error}"[:500]) from None


def load_sentence_transformers(
    name: str, path: Path | None, *, allow_download: bool = True, executor: Executor | None = None
) -> SentenceTransformersProvider:
    """Loads a model by its directory, else by its name from the hub's cache or the hub; importing torch alone
    takes seconds. Code that comes with a model is not run. Raises ModelUnavailable, Unsupported (the extra is
    not installed)."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise Unsupported(
            "sentence-transformers is not installed", hint="pip install 'vectable[sentence-transformers]'"
        ) from None
    local = path is not None or offline() or not allow_download
    try:
        model = SentenceTransformer(
            str(path or name.partition("?")[0]), trust_remote_code=False, local_files_only=local
        )
    except Exception as error:  # the library, torch and the hub's client raise what they like
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelUnavailable(
            f"sentence-transformers cannot load {name}: {reason[:300]}",
            hint="connect to the hub once, or give the path of a copy of the model",
            context={"model": name},
        ) from None
    directory = path or hub_snapshot(name.partition("?")[0], _has_configuration)
    if directory is None:
        raise ModelUnavailable(
            f"the files of {name} are not in the model-hub cache ({HUB_CACHE_VARIABLES})",
            hint="unset SENTENCE_TRANSFORMERS_HOME, or give the path of a copy of the model",
            context={"model": name},
        )
    return SentenceTransformersProvider(name, _fingerprint(directory, model), model, executor)


def _has_configuration(directory: Path) -> bool:
    return (directory / "config.json").is_file() or (directory / "modules.json").is_file()


def _fingerprint(directory: Path, model: Any) -> str:
    """Of the files that make the vectors. Not of the weights in memory: those that a model does not use are
    drawn at random where its files hold none."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    inside = [path for path in files if not _ELSEWHERE & set(path.relative_to(directory).parts)]
    weights = [path for path in inside if path.suffix == ".safetensors"]
    weights = weights or [path for path in inside if path.suffix == ".bin"]
    found = blake3()
    for path in [*weights, *(path for path in inside if path.suffix in _CONFIGURATION)]:
        found.update(f"{path.relative_to(directory)}:{path.stat().st_size}:".encode())
        found.update_mmap(path.resolve())
    return f"sentence-transformers-{str(model.dtype).removeprefix('torch.')}:{found.hexdigest()}"
