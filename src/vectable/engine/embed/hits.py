"""What the cache has all of, answered without waiting for the model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from vectable.core.recipe import content_key
from vectable.engine.embed.encoded import Cost, Encoded, encoded, kind_of
from vectable.engine.embed.models import Known, Models
from vectable.engine.embed.tiers import CacheTiers
from vectable.errors import Unsupported
from vectable.interfaces import EmbeddingProvider, Item, Purpose


@dataclass(frozen=True, slots=True)
class Hits:
    """Answers from the cache, of models that are or were loaded."""

    models: Models
    tiers: CacheTiers

    def at_hand(
        self, items: Sequence[Item], model: str | None, purpose: Purpose, normalized: bool
    ) -> Encoded | None:
        """What the memory tier alone can answer, at once; None: not this. Raises Unsupported,
        InvalidInput."""
        provider = self.models.at_hand(model)
        if provider is None:
            return None
        keys = content_keys(provider, items, purpose)
        known = self.tiers.at_hand(keys)
        if known is None:
            return None
        return encoded(provider, [known[key] for key in keys], [True] * len(keys), normalized)

    async def without_model(
        self, items: Sequence[Item], model: str | None, purpose: Purpose, normalized: bool, count: bool
    ) -> Encoded | None:
        """What either tier can answer for a model that was let go, tokens counted where that needs no
        weights; None: not this, or the model is loaded. Raises Unsupported, InvalidInput."""
        gone = self.models.at_hand(model)
        if not isinstance(gone, Known) or (count and gone.counted is None):
            return None
        keys = content_keys(gone, items, purpose)
        known = await self.tiers.all_of(keys)
        if known is None:
            return None
        read = 0
        if count and gone.counted is not None:
            read = sum(await asyncio.to_thread(gone.counted, items, purpose))
        raw = [known[key] for key in keys]
        return encoded(gone, raw, [True] * len(keys), normalized, Cost(tokens_read=read))


def content_keys(provider: EmbeddingProvider | Known, items: Sequence[Item], purpose: Purpose) -> list[bytes]:
    """One content key per item. Raises Unsupported for items the model cannot take."""
    for item in items:
        kind = kind_of(item)
        if kind not in provider.modalities:
            raise Unsupported(
                f"model {provider.model.id} does not embed {kind if kind == 'tokens' else kind + 's'}",
                hint=f"it takes {' and '.join(sorted(provider.modalities))}",
            )
    identity, prompt = str(provider.model), provider.prompt(purpose)
    return [content_key(identity, prompt, item) for item in items]
