"""What a caller gets: vectors in the order of the items, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vectable.core.vectors import Matrix, normalize, stack
from vectable.engine.embed.models import Known
from vectable.errors import VectableError
from vectable.interfaces import EmbeddingProvider, Item


@dataclass(frozen=True, slots=True)
class Cost:
    """As in `Encoded`."""

    tokens: int = 0
    inference_ms: float = 0.0
    tokens_read: int = 0


NOTHING = Cost()


@dataclass(frozen=True, slots=True)
class Encoded:
    """`vectors` float32[n, dimensions] in the order of the items; `tokens` and `inference_ms` count only what
    the model computed, `tokens_read` all items as the model reads them, where it was asked for."""

    vectors: Matrix
    cached: list[bool]
    model: str
    dimensions: int
    tokens: int
    inference_ms: float
    tokens_read: int = 0


def encoded(
    provider: EmbeddingProvider | Known,
    raw: Sequence[bytes],
    cached: list[bool],
    normalized: bool,
    cost: Cost = NOTHING,
) -> Encoded:
    """The answer made of vectors as the cache keeps them."""
    matrix = stack(raw, provider.dimensions)
    return Encoded(
        vectors=normalize(matrix) if normalized else matrix,
        cached=cached,
        model=provider.model.id,
        dimensions=provider.dimensions,
        tokens=cost.tokens,
        inference_ms=cost.inference_ms,
        tokens_read=cost.tokens_read,
    )


def naming(
    error: VectableError, items: Sequence[Item], position: int, names: Sequence[str] | None = None
) -> VectableError:
    """The error of one item, saying which one: by its name, or among several by its position."""
    if (len(items) == 1 and names is None) or error.retryable:
        return error
    name = names[position] if names is not None else f"{kind_of(items[position])} {position}"
    context = {**error.context, "index": position}
    return type(error)(f"{name}: {error.detail}", hint=error.hint, context=context)


def kind_of(item: Item) -> str:
    """The word for what it is, as in `EmbeddingProvider.modalities`."""
    return "text" if isinstance(item, str) else "image" if isinstance(item, bytes) else "tokens"
