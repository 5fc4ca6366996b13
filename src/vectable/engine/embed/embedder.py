"""The one way anything is embedded: content key → cache → in-flight work → model."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from vectable.config import Settings
from vectable.core.meter import UNMETERED, Meter
from vectable.core.vectors import from_bytes, normalize, to_bytes
from vectable.engine.embed.claims import Claims
from vectable.engine.embed.encoded import Cost, Encoded, encoded, naming
from vectable.engine.embed.hits import Hits, content_keys
from vectable.engine.embed.models import Models
from vectable.engine.embed.outcomes import Failure
from vectable.engine.embed.passes import Call, Passes, Step, token_lengths
from vectable.engine.embed.remote import RemoteRun
from vectable.engine.embed.tiers import CacheTiers
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


@dataclass(slots=True)
class _Work:
    """What one call still has to compute: first position by content key, and what it cost."""

    tokens: int = 0
    inference_ms: float = 0.0
    results: dict[bytes, bytes | Failure] = field(default_factory=dict)
    lengths: dict[bytes, int] = field(default_factory=dict)
    """Tokens of those that a model read for this call."""

    def cost(self, tokens_read: int) -> Cost:
        return Cost(self.tokens, self.inference_ms, tokens_read)

    def add(self, call: Call) -> None:
        self.tokens += sum(call.lengths.values())
        self.inference_ms += call.inference_s * 1000
        self.results |= call.results
        self.lengths |= call.lengths


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
        self.crowded = crowded
        """Whether other processes may be at work on the same database, each with a copy of the model."""
        self._claims = None if state is None else Claims(state)
        self._tiers = CacheTiers(
            cache, settings.cache_max_size, settings.cache_ttl_ms, settings.persistent_cache_bytes
        )
        self._hits = Hits(self.models, self._tiers)
        self._meter = meter
        self._budget = settings.embed_batch_tokens
        self._most = settings.batch_size
        self._queue_tokens = settings.embed_queue_tokens
        self._passes: dict[str, Passes] = {}
        # Work under way holds its model, and lets go of it when it is done.
        self.models.on_unload = self._unloaded
        self.models.in_use = self._in_use
        self._in_flight: dict[bytes, asyncio.Future[bytes | Failure | None]] = {}
        """At models elsewhere; None: whoever had asked for it went away."""

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

    async def cache_settled(self) -> None:
        """Returns once the tier on disk has what was computed before."""
        await self._tiers.settled()

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
        names: Sequence[str] | None = None,
    ) -> Encoded:
        """Vectors for `items`, each of Euclidean length 1 unless told otherwise. `cache` false neither reads
        nor writes the cache. Raises the first item's error when one fails: ModelNotFound, Unsupported,
        ProviderError, InvalidInput."""
        if cache:
            found = await self._hits.without_model(items, model, purpose, normalize_vectors, count)
            if found is not None:
                return found
        provider = await self.models.provider(model)
        keys = content_keys(provider, items, purpose)
        known = await self._tiers.get_many(keys) if cache else {}
        work = await self._compute(provider, items, keys, known, purpose, cache, None, shared=cache)
        for position, key in enumerate(keys):
            failed = work.results.get(key)
            if isinstance(failed, Failure):
                raise naming(failed.error, items, position, names)
        raw = [known[k] if k in known else _vector(work.results[k]) for k in keys]
        read = await self._count(provider, items, keys, purpose, work.lengths) if count else 0
        return encoded(provider, raw, [key in known for key in keys], normalize_vectors, work.cost(read))

    def encode_at_hand(
        self,
        items: Sequence[Item],
        model: str | None = None,
        *,
        purpose: Purpose = "document",
        normalize_vectors: bool = True,
    ) -> Encoded | None:
        """What `encode` gives, without waiting for anything, where the model is or was loaded and the cache's
        memory tier has all; else None. Raises Unsupported, InvalidInput."""
        return self._hits.at_hand(items, model, purpose, normalize_vectors)

    async def _count(
        self,
        provider: EmbeddingProvider,
        items: Sequence[Item],
        keys: Sequence[bytes],
        purpose: Purpose,
        lengths: Mapping[bytes, int],
    ) -> int:
        """Tokens of all items, as the model reads them."""
        uncounted = [item for item, key in zip(items, keys, strict=True) if key not in lengths]
        counted = sum(lengths.get(key, 0) for key in keys)
        if not uncounted:
            return counted
        return counted + sum(await asyncio.to_thread(token_lengths, provider, uncounted, purpose))

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
        keys = content_keys(provider, items, "document")
        known = await self._tiers.get_many(keys) if use_cache and read_cache else {}
        if step is not None and known:
            step(sum(key in known for key in keys))
        shared = use_cache and read_cache
        work = await self._compute(
            provider, items, keys, known, "document", use_cache, step, shared=shared, patient=True
        )
        await self._tiers.settled()
        found = [known[k] if k in known else work.results[k] for k in keys]
        return [v if isinstance(v, Failure) else stored_form(v, normalized) for v in found]

    @contextlib.asynccontextmanager
    async def alone(self, cells: Sequence[bytes]) -> AsyncIterator[list[bytes]]:
        """Those of `cells` (32 bytes each, by which processes know them) that nobody else is at work on, for
        as long as the block runs."""
        if self._claims is None:
            yield list(cells)
            return
        async with self._claims.take(cells) as granted:
            yield granted

    async def cached_vectors(self, wants: Sequence[bytes], normalized: bool) -> dict[bytes, bytes]:
        """Stored vectors the cache already holds, by content key."""
        found = await self._tiers.get_many(wants)
        return {key: stored_form(vector, normalized) for key, vector in found.items()}

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
        patient: bool = False,
    ) -> _Work:
        """`store`: results are kept in the cache. `shared`: others' results will do as well. `patient`: it is
        never refused for a long queue, and others come first."""
        todo: dict[bytes, int] = {}
        for position, key in enumerate(keys):
            if key not in known:
                todo.setdefault(key, position)
        counts = _counts(keys, todo) if step is not None else {}
        if not todo:
            return _Work()
        passes = self._passes_of(provider)
        if passes is None:
            remote = cast(RemoteEmbeddingProvider, provider)
            return await self._compute_remote(
                remote, items, todo, purpose, store, step, counts, shared=shared
            )
        contents = {key: items[position] for key, position in todo.items()}
        work = _Work()

        async def compute(keys: Sequence[bytes]) -> None:
            own = {key: contents[key] for key in keys}
            work.add(
                await passes.compute(own, purpose, keep=store, patient=patient, step=step, counts=counts)
            )

        async def compute_and_write(keys: Sequence[bytes]) -> None:
            await compute(keys)
            await self._tiers.settled()

        def deliver(key: bytes, vector: bytes) -> None:
            work.results[key] = vector
            if step is not None:
                step(counts[key])

        # A query is one short text: waiting for another to embed it saves nothing.
        if self._claims is None or not (self.crowded and shared and purpose == "document"):
            await compute(list(todo))
        else:
            await self._claims.each_once(list(todo), self._tiers.look_again, compute_and_write, deliver)
        self.models.touch(provider.model.id)
        return work

    def _passes_of(self, provider: EmbeddingProvider) -> Passes | None:
        """Those of a model that runs here; None for one served elsewhere."""
        passes = self._passes.get(provider.model.id)
        if passes is None or passes.provider is not provider:
            if isinstance(provider, RemoteEmbeddingProvider):
                return None
            passes = self._passes[provider.model.id] = Passes(
                provider,
                budget=self._budget,
                most_items=self._most,
                most_tokens=self._queue_tokens,
                keep=self._tiers.put_soon,
                meter=self._meter,
            )
        return passes

    def _in_use(self, model: str) -> bool:
        return model in self._passes and self._passes[model].waiting_items > 0

    def _unloaded(self, model: str) -> None:
        self._passes.pop(model, None)

    def waiting(self) -> dict[str, tuple[int, int]]:
        """By model: contents that wait for it or are with it, and about how many tokens they have."""
        return {name: (p.waiting_items, p.waiting_tokens) for name, p in self._passes.items()}

    async def _compute_remote(
        self,
        provider: RemoteEmbeddingProvider,
        items: Sequence[Item],
        todo: dict[bytes, int],
        purpose: Purpose,
        store: bool,
        step: Step | None,
        counts: dict[bytes, int],
        *,
        shared: bool,
    ) -> _Work:
        work = _Work()
        while left := {key: position for key, position in todo.items() if key not in work.results}:
            theirs = {key: self._in_flight[key] for key in left if key in self._in_flight}
            mine = {key: position for key, position in left.items() if key not in theirs}
            self._in_flight |= {key: asyncio.Future() for key in mine}
            try:
                await self._run_remote(provider, items, mine, purpose, store, shared, work, step, counts)
            finally:
                for key in mine:
                    future = self._in_flight.pop(key)
                    if not future.done():
                        future.set_result(work.results.get(key))
            found = {key: await asyncio.shield(future) for key, future in theirs.items()}
            work.results |= {key: result for key, result in found.items() if result is not None}
        return work

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
            if tokens:
                work.lengths[key] = tokens
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
        """Releases the models, once what they computed is in the cache."""
        for passes in self._passes.values():
            await passes.close()
        await self._tiers.settled()
        await self.models.close()


def stored_form(vector: bytes, normalized: bool) -> bytes:
    """A model's vector as cells keep it."""
    return to_bytes(normalize(from_bytes(vector)[None, :])[0]) if normalized else vector


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
