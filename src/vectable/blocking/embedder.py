"""A model without a database, synchronous: the same methods, which wait."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from vectable.blocking.loop import current_loop
from vectable.blocking.mirror import mirrors
from vectable.blocking.owner import Owner
from vectable.core.vectors import Matrix
from vectable.handles.embedder import AsyncEmbedder

if TYPE_CHECKING:
    from vectable.interfaces import ModelCard, Purpose


@mirrors(AsyncEmbedder)
class Embedder(Owner):
    """A model by name (None: the default text model), or by the path of its directory; loaded when first
    used. Vectors are kept in memory (the setting `cache_max_size`), so the same content is computed once;
    those of a remote model, and what it costs, in the directory `remote` of the setting `cache_dir`, too.
    Usable from any thread of the process that made it, as `with Embedder() as embedder`."""

    def __init__(self, model: str | os.PathLike[str] | None = None, **settings: Any) -> None:
        """`settings` are the fields of `vectable.config.Settings`; what is not given comes from VECTABLE_*
        variables. Raises InvalidInput."""
        self._embedder = AsyncEmbedder(model, **settings)
        super().__init__(current_loop(), self._embedder)

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
        self._close()
