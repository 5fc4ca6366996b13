"""The models in use: each loaded once, on first need, off the event loop."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import get_args

from vectable.config import Settings
from vectable.errors import InvalidInput, ModelNotFound, ProviderError, Unsupported, VectableError
from vectable.interfaces import (
    EmbeddingProvider,
    Item,
    ModelCard,
    ModelIdentity,
    ModelLibrary,
    Purpose,
    RemoteEmbeddingProvider,
    TokenizingProvider,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a model whose weights were let go: enough to find its vectors in the cache, and
    to count tokens where that needs no weights."""

    model: ModelIdentity
    dimensions: int
    modalities: frozenset[str]
    prompts: Mapping[Purpose, str]
    counted: Callable[[Sequence[Item], Purpose], list[int]] | None

    def prompt(self, purpose: Purpose) -> str:
        """As of the model."""
        return self.prompts[purpose]


class Models:
    """Loaded providers, by the names they were asked for and by their canonical ids."""

    def __init__(self, library: ModelLibrary, settings: Settings) -> None:
        self._library = library
        self._settings = settings
        self._fake = True if settings.fake_embeddings else None
        self._by_name: dict[str, EmbeddingProvider] = {}
        self._by_id: dict[str, EmbeddingProvider] = {}
        self._let_go: dict[str, Known] = {}
        self._loading: dict[str, asyncio.Task[EmbeddingProvider]] = {}
        """Under way, by canonical id. Whoever waits may go away: the model is there for who asks next."""
        self._used_at: dict[str, float] = {}
        """When those that may be unloaded were last used; a provider of one's own is not among them."""
        self._image_fails = False
        """Whether the default image model could not be loaded when last that was tried."""
        self._timer: asyncio.TimerHandle | None = None
        self._kept_alive_s = settings.model_keep_alive_ms / 1000
        self.on_unload: Callable[[str], None] | None = None
        """Told the id of a model that goes."""
        self.in_use: Callable[[str], bool] = lambda _: False
        """Whether somebody waits for the model of that id: it is not idle then, however long that takes."""
        self.on_download: Callable[[str, int, int], None] | None = None
        """Hears of downloads begun from now on, on their threads: (file, bytes done, bytes in all)."""

    @property
    def default(self) -> str:
        """The name of the default text model."""
        return self._settings.text_model

    def image(self) -> str | None:
        """The name of the default image model; None where it cannot be had on this machine, or could not be
        loaded when last it was tried. Never raises."""
        name = self._settings.image_model
        try:
            card = self._resolve(name) if name else None
        except VectableError:
            return None
        there = card is not None and card.cached and "image" in card.modalities
        return name if there and not self._image_fails else None

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
            return self._library.resolve(name, allow_paths=self._may_be_path(name), fake=False).id
        except (InvalidInput, ModelNotFound):
            return name

    def _resolve(self, name: str) -> ModelCard:
        return self._library.resolve(name, allow_paths=self._may_be_path(name), fake=self._fake)

    def _may_be_path(self, name: str) -> bool:
        """Names in the settings are of whoever runs this, so they may be paths where others may not."""
        return self._settings.model_paths or name in self._by_id or self._settings.names_model(name)

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
            self.touch(self._by_name[name].model.id)
            return self._by_name[name]
        try:
            canonical = self._resolve(name).id
        except ModelNotFound:
            canonical = name  # not known without asking the model hub, which loading does
        provider = self._by_id.get(canonical)
        if provider is None:
            loading = self._loading.get(canonical)
            if loading is None:
                loading = self._loading[canonical] = asyncio.create_task(self._load(name))
                loading.add_done_callback(partial(self._loaded, canonical))
            provider = await _unless_closed(loading)
        if self._by_id.get(provider.model.id) is provider:  # it may have been let go meanwhile
            self._by_name[name] = provider
        self.touch(provider.model.id)
        return provider

    def _loaded(self, canonical: str, loading: asyncio.Task[EmbeddingProvider]) -> None:
        del self._loading[canonical]
        if not loading.cancelled():
            loading.exception()  # seen, though nobody waits for it any more

    async def _load(self, name: str) -> EmbeddingProvider:
        fails = False
        try:
            provider = await asyncio.to_thread(
                self._library.load,
                name,
                cache_dir=self._settings.cache_directory / "models",
                allow_paths=self._may_be_path(name),
                fake=self._fake,
                progress=self.on_download,
            )
        except Exception:
            fails = True
            raise
        finally:
            if name == self._settings.image_model:
                self._image_fails = fails
        if not isinstance(provider, RemoteEmbeddingProvider):
            self._used_at[provider.model.id] = time.monotonic()
        self.add(name, provider)
        self.touch(provider.model.id)
        return provider

    def touch(self, id: str) -> None:
        """Notes that the model is used now."""
        if id not in self._used_at:
            return
        self._used_at[id] = time.monotonic()
        if self._kept_alive_s and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._kept_alive_s, self._unload_idle)

    def _unload_idle(self) -> None:
        now = time.monotonic()
        self._used_at.update({i: now for i in self._used_at if self.in_use(i)})
        for idle in [i for i, used in self._used_at.items() if now - used >= self._kept_alive_s]:
            self._drop(idle)
        self._timer = None
        if self._used_at:
            wait = min(self._used_at.values()) + self._kept_alive_s - now
            self._timer = asyncio.get_running_loop().call_later(max(wait, 0.001), self._unload_idle)

    def unload(self, model: str | None) -> bool:
        """Lets go of a model's weights; what is being computed with it comes to its end first. Whether it was
        loaded. The next use loads it again. Raises ModelNotFound, and Unsupported for a model that holds no
        weights here (a remote one, a provider of one's own)."""
        found = self.card(model).id
        if found not in self._by_id:
            return False
        if found not in self._used_at:
            raise Unsupported(f"{found} holds no weights here that could be unloaded", hint="leave it be")
        self._drop(found)
        return True

    def _drop(self, id: str) -> None:
        # Not closed: whoever is computing with it holds it too, and its memory goes with the last of them.
        gone = self._by_id.pop(id)
        del self._used_at[id]
        prompts: dict[Purpose, str] = {purpose: gone.prompt(purpose) for purpose in get_args(Purpose)}
        counted = gone.counter() if isinstance(gone, TokenizingProvider) else None
        known = Known(gone.model, gone.dimensions, gone.modalities, prompts, counted)
        self._let_go |= {name: known for name, provider in self._by_name.items() if provider is gone}
        self._by_name = {n: p for n, p in self._by_name.items() if p.model.id != id}
        if self.on_unload is not None:
            self.on_unload(id)

    def at_hand(self, model: str | None) -> EmbeddingProvider | Known | None:
        """The model, if it is loaded, or what is known of it, if it was."""
        name = self._named(model)
        provider = self._by_name.get(name)
        if provider is None:
            return self._let_go.get(name)
        self.touch(provider.model.id)
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
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for loading in self._loading.values():
            loading.cancel()
        for provider in self._by_id.values():
            await provider.close()
        self._by_id.clear()
        self._by_name.clear()
        self._used_at.clear()


async def _unless_closed(loading: asyncio.Task[EmbeddingProvider]) -> EmbeddingProvider:
    """What is loaded; that goes on though this wait is cancelled. Raises ProviderError if it is given up."""
    try:
        return await asyncio.shield(loading)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ProviderError("the embedder was closed") from None
