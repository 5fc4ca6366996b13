"""The one way anything is embedded: content key → cache → in-flight work → model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vectable.config import Settings
from vectable.core.meter import UNMETERED, Meter
from vectable.core.recipe import content_key
from vectable.core.vectors import Matrix, from_bytes, normalize, to_bytes
from vectable.engine.embed.batches import token_batches
from vectable.engine.embed.claims import Claims
from vectable.engine.embed.models import Models
from vectable.engine.embed.outcomes import Failure, checked
from vectable.engine.embed.remote import RemoteRun
from vectable.engine.embed.tiers import CacheTiers
from vectable.errors import InvalidInput, ProviderError, Unsupported, VectableError
from vectable.interfaces import (
    EmbeddingProvider,
    Item,
    ModelCard,
    ModelLibrary,
    Purpose,
    RemoteEmbeddingProvider,
    StateStore,
    VectorCache,
)

Step = Callable[[int], None]
"""Told how many more items are done."""


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


@dataclass(slots=True)
class _Work:
    """What one call still has to compute: first position by content key, and what it cost."""

    tokens: int = 0
    inference_ms: float = 0.0
    results: dict[bytes, bytes | Failure] = field(default_factory=dict)


class Embedder:
    """Belongs to one event loop. Equal contents asked for at the same time are computed once."""

    def __init__(
        self,
        library: ModelLibrary,
        settings: Settings,
        cache: VectorCache,
        *,
        state: StateStore | None = None,
        crowded: bool = False,
        meter: Meter = UNMETERED,
    ) -> None:
        """`state` is where contents are claimed before they are paid for; None: they are not. `crowded`: so
        are contents for models that cost nothing but time."""
        self.models = Models(library, settings)
        self._crowded = crowded
        self._claims = None if state is None else Claims(state)
        self._tiers = CacheTiers(
            cache, settings.cache_max_size, settings.cache_ttl_ms, settings.persistent_cache_bytes
        )
        self._meter = meter
        self._budget = settings.embed_batch_tokens
        self._most = settings.batch_size
        self._in_flight: dict[bytes, asyncio.Future[bytes | Failure]] = {}

    async def card(self, model: str | None) -> ModelCard:
        """What is known of a model. Raises ModelNotFound."""
        return self.models.card(model)

    def cards(self) -> list[ModelCard]:
        """Every model known here."""
        return self.models.cards()

    async def preload(self, model: str | None) -> tuple[ModelCard, float]:
        """Loads a model; its card and the milliseconds it took."""
        return await self.models.preload(model)

    async def unload(self, model: str | None) -> bool:
        """Lets go of a model's weights; whether it was loaded. Raises ModelNotFound, Unsupported."""
        return self.models.unload(model)

    def cache_stats(self) -> dict[str, Any]:
        """Size, limit, hits, misses, evictions and bytes of the cache's memory tier."""
        return self._tiers.stats()

    async def clear_cache(self, persistent: bool = False) -> int:
        """Empties the memory tier, or both; how many entries went."""
        return await self._tiers.clear(persistent)

    async def encode(
        self,
        items: Sequence[Item],
        model: str | None = None,
        *,
        purpose: Purpose = "document",
        cache: bool = True,
        normalize_vectors: bool = True,
        count: bool = False,
    ) -> Encoded:
        """Vectors for `items`, each of Euclidean length 1 unless told otherwise. `cache` false neither reads
        nor writes the cache. Raises the first item's error when one fails: ModelNotFound, Unsupported,
        ProviderError, InvalidInput."""
        provider = await self.models.provider(model)
        keys = self.content_keys(provider, items, purpose)
        known = await self._tiers.get_many(keys) if cache else {}
        work = await self._compute(provider, items, keys, known, purpose, cache, None, shared=cache)
        for position, key in enumerate(keys):
            failed = work.results.get(key)
            if isinstance(failed, Failure):
                raise _naming(failed.error, items, position)
        raw = [known[k] if k in known else _vector(work.results[k]) for k in keys]
        matrix = (
            np.stack([from_bytes(v) for v in raw]) if raw else np.empty((0, provider.dimensions), np.float32)
        )
        return Encoded(
            vectors=normalize(matrix) if normalize_vectors else matrix,
            cached=[key in known for key in keys],
            model=provider.model.id,
            dimensions=provider.dimensions,
            tokens=work.tokens,
            inference_ms=work.inference_ms,
            tokens_read=sum(provider.lengths(items)) if count else 0,
        )

    async def encode_each(
        self,
        items: Sequence[Item],
        model: str,
        *,
        normalized: bool,
        use_cache: bool,
        read_cache: bool = True,
        step: Step | None = None,
    ) -> list[bytes | Failure]:
        """Stored vectors for documents, or a Failure per item: one bad item costs the others nothing.
        `read_cache` false computes anew but keeps the result."""
        provider = await self.models.provider(model)
        keys = self.content_keys(provider, items, "document")
        known = await self._tiers.get_many(keys) if use_cache and read_cache else {}
        if step is not None and known:
            step(sum(key in known for key in keys))
        shared = use_cache and read_cache
        work = await self._compute(provider, items, keys, known, "document", use_cache, step, shared=shared)
        found = [known[k] if k in known else work.results[k] for k in keys]
        return [v if isinstance(v, Failure) else stored_form(v, normalized) for v in found]

    async def cached_vectors(self, wants: Sequence[bytes], normalized: bool) -> dict[bytes, bytes]:
        """Stored vectors the cache already holds, by content key."""
        found = await self._tiers.get_many(wants)
        return {key: stored_form(vector, normalized) for key, vector in found.items()}

    def content_keys(
        self, provider: EmbeddingProvider, items: Sequence[Item], purpose: Purpose
    ) -> list[bytes]:
        """One content key per item. Raises Unsupported for items the model cannot take."""
        for item in items:
            kind = _kind(item)
            if kind not in provider.modalities:
                raise Unsupported(
                    f"model {provider.model.id} does not embed {kind if kind == 'tokens' else kind + 's'}",
                    hint=f"it takes {' and '.join(sorted(provider.modalities))}",
                )
        identity, prompt = str(provider.model), provider.prompt(purpose)
        return [content_key(identity, prompt, item) for item in items]

    async def _compute(
        self,
        provider: EmbeddingProvider,
        items: Sequence[Item],
        keys: Sequence[bytes],
        known: dict[bytes, bytes],
        purpose: Purpose,
        store: bool,
        step: Step | None,
        *,
        shared: bool,
    ) -> _Work:
        """`store`: results are kept in the cache. `shared`: others' results will do as well."""
        work = _Work()
        mine: dict[bytes, int] = {}
        theirs: dict[bytes, asyncio.Future[bytes | Failure]] = {}
        for position, key in enumerate(keys):
            if key in known or key in mine or key in theirs:
                continue
            if key in self._in_flight:
                theirs[key] = self._in_flight[key]
            else:
                mine[key] = position
        loop = asyncio.get_running_loop()
        for key in mine:
            self._in_flight[key] = loop.create_future()
        counts = _counts(keys, mine) if step is not None else {}
        try:
            if isinstance(provider, RemoteEmbeddingProvider):
                await self._run_remote(provider, items, mine, purpose, store, shared, work, step, counts)
            else:
                await self._run_local(provider, items, mine, purpose, store, shared, work, step, counts)
        finally:
            for key in mine:
                lost = Failure(ProviderError("the embedding was abandoned", hint="try again"))
                future = self._in_flight.pop(key)
                if not future.done():
                    future.set_result(work.results.get(key, lost))
        for key, future in theirs.items():
            work.results[key] = await asyncio.shield(future)
        return work

    async def _run_local(
        self,
        provider: EmbeddingProvider,
        items: Sequence[Item],
        mine: dict[bytes, int],
        purpose: Purpose,
        store: bool,
        shared: bool,
        work: _Work,
        step: Step | None,
        counts: dict[bytes, int],
    ) -> None:
        async def compute(keys: Sequence[bytes]) -> None:
            own = {key: mine[key] for key in keys}
            await self._run(provider, items, own, purpose, store, work, step, counts)

        def deliver(key: bytes, vector: bytes) -> None:
            work.results[key] = vector
            self._in_flight[key].set_result(vector)
            if step is not None:
                step(counts[key])

        # A query is one short text: waiting for another to embed it saves nothing.
        if self._claims is None or not (self._crowded and shared and purpose == "document"):
            await compute(list(mine))
        else:
            await self._claims.each_once(list(mine), self._tiers.look_again, compute, deliver)

    async def _run(
        self,
        provider: EmbeddingProvider,
        items: Sequence[Item],
        mine: dict[bytes, int],
        purpose: Purpose,
        store: bool,
        work: _Work,
        step: Step | None,
        counts: dict[bytes, int],
    ) -> None:
        keys = list(mine)
        began = time.perf_counter()
        lengths = provider.lengths([items[mine[key]] for key in keys])
        if keys:
            self._meter.took("tokenise", time.perf_counter() - began)
        unsaved: dict[bytes, bytes] = {}
        saved_at = time.monotonic()
        for batch in token_batches(lengths, self._budget, min(self._most, provider.max_batch)):
            batch_keys = [keys[i] for i in batch]
            started = time.perf_counter()
            results = await _embed(provider, [items[mine[key]] for key in batch_keys], purpose)
            seconds = time.perf_counter() - started
            tokens = sum(lengths[i] for i in batch)
            self._meter.took("inference", seconds)
            self._meter.batch(provider.model.id, len(batch), tokens)
            work.inference_ms += seconds * 1000
            work.tokens += tokens
            for key, result in zip(batch_keys, results, strict=True):
                work.results[key] = result
                if isinstance(result, bytes):
                    unsaved[key] = result
                self._in_flight[key].set_result(result)
            if store and unsaved and time.monotonic() - saved_at > 0.5:
                await self._tiers.put_many(unsaved, provider.model.id)
                unsaved, saved_at = {}, time.monotonic()
            if step is not None:
                step(sum(counts[key] for key in batch_keys))
        if store and unsaved:
            await self._tiers.put_many(unsaved, provider.model.id)

    async def _run_remote(
        self,
        provider: RemoteEmbeddingProvider,
        items: Sequence[Item],
        mine: dict[bytes, int],
        purpose: Purpose,
        store: bool,
        shared: bool,
        work: _Work,
        step: Step | None,
        counts: dict[bytes, int],
    ) -> None:
        def deliver(key: bytes, result: bytes | Failure, tokens: int) -> None:
            work.results[key] = result
            work.tokens += tokens
            self._in_flight[key].set_result(result)
            if step is not None:
                step(counts[key])

        claims = self._claims if shared and provider.paid else None
        started = time.perf_counter()
        run = RemoteRun(
            provider, purpose, self._tiers if store else None, claims, deliver, self._meter, self._most
        )
        await run.run({key: items[position] for key, position in mine.items()})
        work.inference_ms += (time.perf_counter() - started) * 1000

    async def maintain(self) -> None:
        """Housekeeping: prunes what processes that died have left. Safe at any time."""
        if self._claims is not None:
            await self._claims.prune()

    async def close(self) -> None:
        """Releases the models."""
        await self.models.close()


def stored_form(vector: bytes, normalized: bool) -> bytes:
    """A model's vector as cells keep it."""
    return to_bytes(normalize(from_bytes(vector)[None, :])[0]) if normalized else vector


def _naming(error: VectableError, items: Sequence[Item], position: int) -> VectableError:
    """The error of one item among several, saying which one."""
    if len(items) == 1 or error.retryable:
        return error
    context = {**error.context, "index": position}
    return type(error)(
        f"{_kind(items[position])} {position}: {error.detail}", hint=error.hint, context=context
    )


def _kind(item: Item) -> str:
    return "text" if isinstance(item, str) else "image" if isinstance(item, bytes) else "tokens"


def _vector(result: bytes | Failure) -> bytes:
    if isinstance(result, Failure):
        raise result.error
    return result


def _counts(keys: Sequence[bytes], mine: dict[bytes, int]) -> dict[bytes, int]:
    counts = dict.fromkeys(mine, 0)
    for key in keys:
        if key in counts:
            counts[key] += 1
    return counts


async def _embed(
    provider: EmbeddingProvider, items: Sequence[Item], purpose: Purpose
) -> list[bytes | Failure]:
    """One batch; when it fails as a whole for a reason of its content, each item alone."""
    try:
        matrix = await provider.embed(items, purpose)
        return checked(provider, matrix, len(items))
    except (InvalidInput, Unsupported, ProviderError) as error:
        if len(items) == 1:
            return [Failure(error)]
    alone = [await _embed(provider, [item], purpose) for item in items]
    return [results[0] for results in alone]
