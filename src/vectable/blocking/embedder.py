"""A model without a database, synchronous: the same methods, which wait."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from vectable.blocking.loop import current_loop
from vectable.blocking.mirror import mirrors
from vectable.core.vectors import Matrix
from vectable.handles.embedder import AsyncEmbedder

if TYPE_CHECKING:
    from vectable.interfaces import ModelCard, Purpose

T = TypeVar("T")


@mirrors(AsyncEmbedder)
class Embedder:
    """A model by name (None: the default text model), or by the path of its directory; loaded when first
    used. Vectors are kept in memory (the setting `cache_max_size`), so the same content is computed once;
    those of a remote model, and what it costs, in the directory `remote` of the setting `cache_dir`, too.
    Usable from any thread of the process that made it, as `with Embedder() as embedder`."""

    def __init__(self, model: str | os.PathLike[str] | None = None, **settings: Any) -> None:
        """`settings` are the fields of `vectable.config.Settings`; what is not given comes from VECTABLE_*
        variables. Raises InvalidInput."""
        self._embedder = AsyncEmbedder(model, **settings)
        self._loop = current_loop()
        self._loop.register(self._embedder, self._embedder.close)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(work)

    @property
    def model(self) -> str:
        return self._embedder.model

    @property
    def closed(self) -> bool:
        return self._embedder.closed

    def encode(
        self, texts: Any, *, purpose: Purpose = "document", cache: bool = True, normalize: bool = True
    ) -> Matrix:
        return self._run(self._embedder.encode(texts, purpose=purpose, cache=cache, normalize=normalize))

    def encode_images(self, images: Any, *, cache: bool = True, normalize: bool = True) -> Matrix:
        return self._run(self._embedder.encode_images(images, cache=cache, normalize=normalize))

    def card(self) -> ModelCard:
        return self._run(self._embedder.card())

    def preload(self) -> ModelCard:
        return self._run(self._embedder.preload())

    def cache_stats(self) -> dict[str, Any]:
        return self._run(self._embedder.cache_stats())

    def close(self) -> None:
        if not self._embedder.closed:
            self._loop.release(self._embedder)
            self._run(self._embedder.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        embedder = getattr(self, "_embedder", None)
        if embedder is not None and not embedder.closed and hasattr(self, "_loop"):
            self._loop.release(embedder)
            self._loop.forget(embedder.close)

    def __repr__(self) -> str:
        return repr(self._embedder).replace("AsyncEmbedder", "Embedder", 1)
