"""What came of an item: its vector, or why it has none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vectable.core.vectors import Matrix, to_bytes
from vectable.errors import EndpointError, ProviderError, VectableError
from vectable.interfaces import EmbeddingProvider


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one item has no vector."""

    error: VectableError
    of_model: bool = False
    """The model failed as a whole, in a way nobody foresaw."""

    @property
    def postponed(self) -> bool:
        """It says nothing about the item: the model failed, or its endpoint was not to be had or may not be
        asked for now."""
        return self.of_model or isinstance(self.error, EndpointError)


def checked(provider: EmbeddingProvider, matrix: Matrix, n: int) -> list[bytes | Failure]:
    """Each of the `n` rows a model gave, as bytes; a row that is not finite is a Failure. Raises
    ProviderError for a matrix of another shape."""
    if matrix.shape != (n, provider.dimensions):
        wanted = (n, provider.dimensions)
        raise ProviderError(f"model {provider.model.id} gave vectors {matrix.shape}, expected {wanted}")
    finite = np.asarray(np.isfinite(matrix).all(axis=1))
    bad = Failure(ProviderError(f"model {provider.model.id} gave a vector that is not finite"))
    return [to_bytes(row) if ok else bad for row, ok in zip(matrix, finite, strict=True)]
