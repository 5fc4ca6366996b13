"""The models in use: each loaded once, on first need, off the event loop."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable

from vectable.config import Settings
from vectable.errors import InvalidInput, ModelNotFound
from vectable.interfaces import EmbeddingProvider, ModelCard, ModelLibrary


class Models:
    """Loaded providers, by the names they were asked for and by their canonical ids."""

    def __init__(self, library: ModelLibrary, settings: Settings) -> None:
        self._library = library
        self._settings = settings
        self._fake = True if settings.fake_embeddings else None
        self._by_name: dict[str, EmbeddingProvider] = {}
        self._by_id: dict[str, EmbeddingProvider] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self.on_download: Callable[[str, int, int], None] | None = None
        """Hears of downloads begun from now on, on their threads: (file, bytes done, bytes in all)."""

    @property
    def default(self) -> str:
        """The name of the default text model."""
        return self._settings.text_model

    def _named(self, model: str | None) -> str:
        if model is not None and not isinstance(model, str):
            raise InvalidInput(f"a model is named by a string, not {type(model).__name__}")
        return self.default if model is None else model

    def add(self, name: str, provider: EmbeddingProvider) -> None:
        """Makes a provider of one's own answer for `name`."""
        self._by_name[name] = self._by_id[provider.model.id] = provider

    def card(self, model: str | None) -> ModelCard:
        """What is known of `model` (None: the default text model). Raises ModelNotFound."""
        name = self._named(model)
        provider = self._by_name.get(name)
        return self._with_loaded(self._resolve(provider.model.id if provider else name))

    def canonical_name(self, model: str | None) -> str:
        """The one name of a loaded model (None: the default text model): what it is called where nothing
        stands in for it. A provider of one's own keeps the name it was added under."""
        name = self._named(model)
        try:
            if (provider := self._by_name.get(name)) and provider.model.id != self._resolve(name).id:
                return name
            return self._library.resolve(name, allow_paths=self._settings.model_paths, fake=False).id
        except (InvalidInput, ModelNotFound):
            return name

    def _resolve(self, name: str) -> ModelCard:
        return self._library.resolve(name, allow_paths=self._settings.model_paths, fake=self._fake)

    def cards(self) -> list[ModelCard]:
        """Every well-known model, and every loaded one."""
        known = {card.id: card for card in self._library.known_models(self._fake)}
        for name in self._by_id:
            if name not in known:
                known[name] = self._resolve(name)
        return [self._with_loaded(card) for _, card in sorted(known.items())]

    def _with_loaded(self, card: ModelCard) -> ModelCard:
        return dataclasses.replace(card, loaded=card.id in self._by_id)

    async def provider(self, model: str | None) -> EmbeddingProvider:
        """The loaded model; the first call loads it (seconds). Raises ModelNotFound, ModelUnavailable."""
        name = self._named(model)
        if name in self._by_name:
            return self._by_name[name]
        try:
            canonical = self._resolve(name).id
        except ModelNotFound:
            canonical = name  # not known without asking the model hub, which loading does
        async with self._locks.setdefault(canonical, asyncio.Lock()):
            provider = self._by_id.get(canonical)
            if provider is None:
                provider = await asyncio.to_thread(
                    self._library.load,
                    name,
                    cache_dir=self._settings.cache_directory / "models",
                    allow_paths=self._settings.model_paths,
                    fake=self._fake,
                    progress=self.on_download,
                )
            self.add(name, provider)
        return provider

    async def preload(self, model: str | None) -> tuple[ModelCard, float]:
        """Loads a model ahead of its first use; its card, and the milliseconds it took."""
        started = time.perf_counter()
        await self.provider(model)
        return self.card(model), (time.perf_counter() - started) * 1000

    def loaded_ids(self) -> list[str]:
        """Canonical ids of the models in memory."""
        return sorted(self._by_id)

    async def close(self) -> None:
        """Releases every model."""
        for provider in self._by_id.values():
            await provider.close()
        self._by_id.clear()
        self._by_name.clear()
