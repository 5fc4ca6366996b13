"""Models of a text tower, an image tower, or both, whose vectors share one space; on ONNX Runtime."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from vectable.core.vectors import Matrix
from vectable.errors import ProviderError, Unsupported
from vectable.interfaces import Item, ModelIdentity, Purpose
from vectable.providers.images import Preprocessing, pixels
from vectable.providers.passes import passes
from vectable.providers.tokenization import Tokenization
from vectable.providers.worker import Worker

_IMAGES_PER_PASS = 8
"""More gains nothing on a processor, their pixels take memory, and others would wait for them."""
_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32}


class TextTower:
    """Texts to vectors by a graph with `input_ids` (and `attention_mask`)."""

    def __init__(self, session: Any, tokenization: Tokenization) -> None:
        """`session` is an onnxruntime.InferenceSession. Raises Unsupported for another kind of graph."""
        self._tower = _Graph(session, {"input_ids", "attention_mask"}, "text_embeds")
        self.tokenization = tokenization
        self.dimensions = self._tower.dimensions

    def __call__(self, texts: Sequence[Item], cancelled: threading.Event) -> Matrix | None:
        """float32 (texts, dimensions), in order; None once `cancelled`. Raises InvalidInput (not Unicode, no
        tokens of this model), ProviderError."""
        ids = self.tokenization.encode_each(texts)
        found: Matrix | None = None
        for rows in passes([len(i) for i in ids]):
            if cancelled.is_set():
                return None
            shape = (len(rows), max(len(ids[row]) for row in rows))
            tokens = np.full(shape, self.tokenization.padding_id, dtype=np.int64)
            mask = np.zeros(shape, dtype=np.int64)
            for at, row in enumerate(rows):
                tokens[at, : len(ids[row])] = ids[row]
                mask[at, : len(ids[row])] = 1
            vectors = self._tower(input_ids=tokens, attention_mask=mask)
            if found is None:
                found = np.empty((len(texts), vectors.shape[1]), np.float32)
            found[rows] = vectors
        return found


class ImageTower:
    """Encoded images to vectors by a graph with `pixel_values`."""

    def __init__(self, session: Any, preprocessing: Preprocessing) -> None:
        """`session` is an onnxruntime.InferenceSession. Raises Unsupported for another kind of graph."""
        self._tower = _Graph(session, {"pixel_values"}, "image_embeds")
        self._preprocessing = preprocessing
        self.dimensions = self._tower.dimensions

    def __call__(self, images: Sequence[bytes], cancelled: threading.Event) -> Matrix | None:
        """float32 (images, dimensions), in order; None once `cancelled`. Raises InvalidInput (no image),
        ProviderError."""
        found: list[Matrix] = []
        for start in range(0, len(images), _IMAGES_PER_PASS):
            if cancelled.is_set():
                return None
            some = images[start : start + _IMAGES_PER_PASS]
            found.append(self._tower(pixel_values=np.stack([pixels(i, self._preprocessing) for i in some])))
        return np.concatenate(found)


class _Graph:
    """A session that gives one vector per row of its inputs."""

    def __init__(self, session: Any, takes: set[str], gives: str) -> None:
        self._session = session
        self._inputs = {i.name: _TYPES.get(i.type) for i in session.get_inputs()}
        outputs = {o.name: o.shape for o in session.get_outputs()}
        flat = [name for name, shape in outputs.items() if len(shape) == 2]
        self._output = next((name for name in (gives, "embedding") if name in flat), "")
        if set(self._inputs) - takes or None in self._inputs.values() or not self._output:
            raise Unsupported(
                f"the model's graph has inputs {list(self._inputs)} and outputs {list(outputs)}",
                hint=f"fp32 graphs with {' and '.join(sorted(takes))} and an output {gives} are run here",
            )
        size = outputs[self._output][1]
        self.dimensions = size if isinstance(size, int) else None

    def __call__(self, **feed: Any) -> Matrix:
        given = {name: feed[name].astype(kind, copy=False) for name, kind in self._inputs.items()}
        try:
            (vectors,) = self._session.run([self._output], given)
        except Exception as error:  # onnxruntime raises subclasses of plain Exception
            raise ProviderError(f"the model failed: {error}") from None
        return np.ascontiguousarray(vectors, dtype=np.float32)


class TowerProvider:
    """A loaded model. `embed` runs on one worker thread, so calls queue; everything may be called from any
    event loop or thread. Texts and images may come mixed where it has both towers."""

    max_batch = 256
    images_per_pass = _IMAGES_PER_PASS

    def __init__(
        self,
        identity: ModelIdentity,
        dimensions: int,
        text: TextTower | None,
        image: ImageTower | None,
        *,
        max_tokens: int = 1,
        normalizes: bool = False,
        executor: Executor | None = None,
    ) -> None:
        """At least one tower, each giving `dimensions` components. An `executor` given must have a single
        thread and stays open at `close`. Raises Unsupported where a tower gives another number."""
        self.model, self.dimensions, self.max_tokens = identity, dimensions, max_tokens
        self.normalizes = normalizes
        kinds = (("text", text), ("tokens", text), ("image", image))
        self.modalities = frozenset(kind for kind, tower in kinds if tower is not None)
        self._text, self._image = text, image
        self._worker = Worker(identity.id, executor)
        for tower in (text, image):
            if tower is not None and tower.dimensions not in (None, dimensions):
                raise Unsupported(
                    f"a tower of {identity.id} gives vectors of {tower.dimensions} components, "
                    f"its configuration says {dimensions}",
                    hint="the towers need their projection into the shared space",
                )

    def prompt(self, purpose: Purpose) -> str:
        """Always "": these models have none."""
        return ""

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Tokens of each text after truncation, special tokens included; an image: 1. Never raises."""
        texts = [item for item in items if not isinstance(item, bytes)]
        counted = iter(self._text.tokenization.lengths(texts) if self._text and texts else [1] * len(texts))
        return [1 if isinstance(item, bytes) else next(counted) for item in items]

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> Matrix:
        """float32[len(items), dimensions], projected, as the model gives them, in the order of `items`. A
        cancelled call stops before its next pass. Raises Unsupported (no tower for an item), InvalidInput
        (text that is not Unicode, bytes that are no image), ProviderError."""
        self._worker.require_open()
        self._check(items)
        given = list(items)
        return await self._worker.run(lambda cancelled: self._run(given, cancelled))

    async def close(self) -> None:
        """Waits for queued work, then releases the model. Further calls of `embed` raise ProviderError."""
        await self._worker.close(self._release)

    def _release(self) -> None:
        self._text = self._image = None

    def _check(self, items: Sequence[Item]) -> None:
        for item in items:
            kind = "image" if isinstance(item, bytes) else "text"
            if kind not in self.modalities:
                other = "images" if kind == "text" else "text"
                raise Unsupported(f"{self.model.id} does not embed {kind}s", hint=f"it takes {other}")

    def _run(self, items: list[Item], cancelled: threading.Event) -> Matrix:
        out = np.empty((len(items), self.dimensions), dtype=np.float32)
        texts = [(row, item) for row, item in enumerate(items) if not isinstance(item, bytes)]
        images = [(row, item) for row, item in enumerate(items) if isinstance(item, bytes)]
        if texts:
            found = self._text([text for _, text in texts], cancelled) if self._text else None
            out[[row for row, _ in texts]] = self._whole(found)
        if images:
            found = self._image([image for _, image in images], cancelled) if self._image else None
            out[[row for row, _ in images]] = self._whole(found)
        return out

    def _whole(self, found: Matrix | None) -> Matrix:
        if found is None:
            raise self._worker.stopped()
        if found.shape[1] != self.dimensions:
            raise ProviderError(f"{self.model.id} gave {found.shape[1]} components, not {self.dimensions}")
        return found
