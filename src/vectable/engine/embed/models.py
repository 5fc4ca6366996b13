"""The models in use: each loaded once, on first need, off the event loop."""

from __future__ import annotations

import asyncio
import os
import time

from vectable import providers
from vectable.config import Settings
from vectable.interfaces import EmbeddingProvider, ModelCard


class Models:
    """Loaded providers by canonical model id."""

    def __init__(self, settings: Settings, *, allow_paths: bool) -> None:
        self._settings = settings
        self._allow_paths = allow_paths
        self._loaded: dict[str, EmbeddingProvider] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        if settings.fake_embeddings:
            os.environ["VECTABLE_FAKE_EMBEDDINGS"] = "1"

    @property
    def default(self) -> str:
        """The name of the default text model."""
        return self._settings.text_model

    def card(self, model: str | None) -> ModelCard:
        """What is known of `model` (None: the default text model). Raises ModelNotFound."""
        card = providers.resolve(model or self._settings.text_model, allow_paths=self._allow_paths)
        return self._with_loaded(card)

    def cards(self) -> list[ModelCard]:
        """Every well-known model, and every loaded one."""
        known = {card.id: card for card in providers.known_models()}
        for name in self._loaded:
            known.setdefault(name, providers.resolve(name, allow_paths=self._allow_paths))
        return [self._with_loaded(card) for _, card in sorted(known.items())]

    def _with_loaded(self, card: ModelCard) -> ModelCard:
        loaded = card.id in self._loaded
        return ModelCard(
            card.id,
            card.dimensions,
            card.max_tokens,
            card.type,
            card.cached,
            loaded,
            card.licence,
            card.runtime,
        )

    async def provider(self, model: str | None) -> EmbeddingProvider:
        """The loaded model; the first call loads it (seconds). Raises ModelNotFound, ModelUnavailable."""
        name = model or self._settings.text_model
        if name in self._loaded:
            return self._loaded[name]
        card = self.card(name)
        async with self._locks.setdefault(card.id, asyncio.Lock()):
            if card.id not in self._loaded:
                self._loaded[card.id] = await asyncio.to_thread(
                    providers.load,
                    name,
                    cache_dir=self._settings.cache_directory / "models",
                    allow_paths=self._allow_paths,
                )
        return self._loaded[card.id]

    async def preload(self, model: str | None) -> tuple[ModelCard, float]:
        """Loads a model ahead of its first use; its card, and the milliseconds it took (0 when loaded)."""
        loaded = self.card(model).loaded
        started = time.perf_counter()
        await self.provider(model)
        return self.card(model), 0.0 if loaded else (time.perf_counter() - started) * 1000

    def loaded_ids(self) -> list[str]:
        """Canonical ids of the models in memory."""
        return sorted(self._loaded)

    async def close(self) -> None:
        """Releases every model."""
        for provider in self._loaded.values():
            await provider.close()
        self._loaded.clear()
