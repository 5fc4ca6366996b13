"""The library of remote models: those a models file declares, beside the models of this machine."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vectable.config import Settings
from vectable.errors import ModelNotFound
from vectable.interfaces import EmbeddingProvider, ModelCard, ModelLibrary, StateStore
from vectable.providers.catalog import HASHING, HashingName
from vectable.providers.guard.breaker import Breaker, State
from vectable.providers.guard.bucket import TokenBucket
from vectable.providers.guard.budget import Budget
from vectable.providers.guard.guarded import GuardedEndpoint, Patience
from vectable.providers.guard.money import from_decimal, shown
from vectable.providers.guard.slots import HostSlots
from vectable.providers.guard.spend import Cap, SpendLedger
from vectable.providers.openai_models import Endpoint, Model, ModelsFile, read_models

if TYPE_CHECKING:
    from vectable.providers.openai import OpenAIProvider

log = logging.getLogger(__name__)
RUNTIME = "openai"


def library_of(settings: Settings, state: StateStore) -> ModelLibrary:
    """The models of this machine, and those of the setting `models_file`. Raises InvalidInput for a file that
    cannot be read or meant."""
    from vectable import providers

    if not settings.models_file:
        return providers
    declared = read_models(settings.models_file)
    return RemoteLibrary(providers, declared, state, providers.fake_embeddings, settings.workers)


def declares(settings: Settings, name: str) -> bool:
    """Whether `name` is a model served elsewhere, and nothing stands in for it. Raises InvalidInput for a
    models file that cannot be read or meant."""
    if not settings.models_file:
        return False
    return name in read_models(settings.models_file).models and not settings.fake_embeddings


class RemoteLibrary:
    """Models by name: the exact id of a declared model first, then what `local` knows. What is spent is kept
    in `state`; rates and concurrency are this process's share of those declared, as one of `workers`."""

    def __init__(
        self,
        local: ModelLibrary,
        declared: ModelsFile,
        state: StateStore,
        fake_by_default: Callable[[], bool],
        workers: int = 1,
    ) -> None:
        self._workers = workers
        self._local = local
        self._declared = declared
        self._ledger = SpendLedger(state)
        self._fake_by_default = fake_by_default
        self._slots: dict[str, HostSlots] = {}
        self._loaded: dict[str, OpenAIProvider] = {}
        self._lock = threading.Lock()

    def _model(self, name: str) -> Model | None:
        return self._declared.models.get(name) if isinstance(name, str) else None

    def _fake(self, fake: bool | None) -> bool:
        return self._fake_by_default() if fake is None else fake

    def resolve(self, name: str, *, allow_paths: bool = False, fake: bool | None = None) -> ModelCard:
        """What is known of a model, without loading or asking anything. Raises InvalidInput, ModelNotFound,
        ModelUnavailable."""
        declared = self._model(name)
        if declared is not None:
            return _stand_in(name, declared) if self._fake(fake) else _card(name, declared)
        with self._hinting():
            return self._local.resolve(name, allow_paths=allow_paths, fake=fake)

    @contextlib.contextmanager
    def _hinting(self) -> Iterator[None]:
        """Names the declared models, too, where a model is not found."""
        try:
            yield
        except ModelNotFound as error:
            if self._declared.models:
                error.hint = f"{error.hint}; remote models: {', '.join(sorted(self._declared.models)[:20])}"
            raise

    def known_models(self, fake: bool | None = None) -> list[ModelCard]:
        """The local models, the default first, then the declared ones that do not take a local one's name."""
        declared = {name: self.resolve(name, fake=fake) for name in self._declared.models}
        local = [declared.pop(card.id, card) for card in self._local.known_models(fake)]
        return [*local, *declared.values()]

    def load(
        self,
        name: str,
        *,
        cache_dir: str | Path | None = None,
        allow_paths: bool = False,
        fake: bool | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> EmbeddingProvider:
        """The model, ready to embed; nothing is sent yet. Raises as `resolve`, and ModelUnavailable when a
        key is missing."""
        declared = self._model(name)
        if declared is not None and not self._fake(fake):
            with self._lock:
                if name not in self._loaded:
                    self._loaded[name] = self._provider(name, declared)
                return self._loaded[name]
        if declared is not None:
            name = _stand_in(name, declared).id
        with self._hinting():
            return self._local.load(
                name, cache_dir=cache_dir, allow_paths=allow_paths, fake=fake, progress=progress
            )

    def _provider(self, name: str, declared: Model) -> OpenAIProvider:
        from vectable.providers.openai import OpenAIProvider, Served
        from vectable.providers.openai_http import EndpointClient, read_key

        served = []
        for endpoint in declared.endpoints():
            client = EndpointClient(endpoint, read_key(endpoint))
            served.append(Served(client, self._guard(name, declared, endpoint)))
        return OpenAIProvider(name, declared, served)

    def _guard(self, name: str, declared: Model, endpoint: Endpoint) -> GuardedEndpoint:
        def told(state: State, reason: str) -> None:
            level = logging.INFO if state == "closed" else logging.WARNING
            log.log(level, "the breaker of %s for %s is %s: %s", endpoint.host, name, state, reason)

        return GuardedEndpoint(
            endpoint.host,
            breaker=Breaker(endpoint.breaker_failures, endpoint.breaker_open_s, on_change=told),
            requests=TokenBucket(self._share(endpoint.requests_per_minute)),
            tokens=TokenBucket(self._share(endpoint.tokens_per_minute)),
            slots=self._slots_of(endpoint),
            budget=Budget(self._ledger, name, endpoint.price_per_million_tokens, self._caps(name, declared)),
            patience=Patience(endpoint.max_attempts, endpoint.max_wait_s, endpoint.first_wait_s),
        )

    def _slots_of(self, endpoint: Endpoint) -> HostSlots:
        """One for each host, whichever models it serves: the least of what they declare."""
        every = [e for model in self._declared.models.values() for e in model.endpoints()]
        least = min(e.max_concurrency for e in every if e.host == endpoint.host)
        return self._slots.setdefault(endpoint.host, HostSlots(max(1, least // self._workers)))

    def _share(self, per_minute: int | None) -> float | None:
        return None if per_minute is None else per_minute / self._workers

    def _caps(self, name: str, declared: Model) -> list[Cap]:
        caps = [(declared.daily_spend_cap, name), (self._declared.daily_spend_cap, None)]
        return [Cap(from_decimal(amount), model) for amount, model in caps if amount is not None]

    def endpoints(self) -> list[dict[str, Any]]:
        """What happened to each endpoint of the models used in this process: see `OpenAIProvider.status`."""
        return [status for provider in list(self._loaded.values()) for status in provider.status()]

    async def spend(self) -> list[dict[str, Any]]:
        """What each model has cost today (UTC), in every process of the state store: `spent`, `reserved` (for
        requests under way) and `cap` (null: none) as decimal text, `requests`, `tokens`."""
        accounts = await self._ledger.today()
        found = []
        for name in sorted(accounts):
            declared = self._model(name)
            cap = declared.daily_spend_cap if declared is not None else None
            account = accounts[name]
            found.append(
                {
                    "model": name,
                    "spent": shown(account.spent),
                    "reserved": shown(account.reserved),
                    "cap": None if cap is None else shown(from_decimal(cap)),
                    "requests": account.requests,
                    "tokens": account.tokens,
                }
            )
        return found


def _card(name: str, declared: Model) -> ModelCard:
    return ModelCard(
        id=name,
        dimensions=declared.dimensions,
        max_tokens=declared.max_tokens,
        type=declared.type,
        cached=False,
        licence=declared.licence,
        runtime=RUNTIME,
    )


def _stand_in(name: str, declared: Model) -> ModelCard:
    return ModelCard(
        id=str(HashingName(declared.dimensions, name)),
        dimensions=declared.dimensions,
        max_tokens=declared.max_tokens,
        type=declared.type,
        cached=True,
        runtime=HASHING,
    )
