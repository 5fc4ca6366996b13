"""Contents sent to a model elsewhere: claimed where that costs money, in requests side by side; what came of
one of them is kept though others fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vectable.core.meter import Meter
from vectable.core.vectors import Matrix
from vectable.engine.embed.claims import Claims
from vectable.engine.embed.outcomes import Failure, checked
from vectable.engine.embed.tiers import CacheTiers
from vectable.errors import EndpointError, InvalidInput, ProviderError, Unsupported, VectableError
from vectable.interfaces import CountingProvider, Item, Purpose, RemoteEmbeddingProvider

Deliver = Callable[[bytes, "bytes | Failure", int], None]
"""Told a content key, what came of it, and how many tokens the model was given for it (0: it was known)."""
_Outcome = tuple["bytes | Failure", int]
"""What came of an item, and its tokens."""
_HOPELESS = 4
"""So many contents refused one by one, and none taken: the others of their batch would be refused, too."""


@dataclass(slots=True)
class RemoteRun:
    """One call's contents on their way. `tiers` None: the results are not kept. `claims` None: nothing is
    claimed."""

    provider: RemoteEmbeddingProvider
    purpose: Purpose
    tiers: CacheTiers | None
    claims: Claims | None
    deliver: Deliver
    meter: Meter
    most_items: int
    """Of one request, beside what the model allows."""
    _lost: EndpointError | None = None
    _gate: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._gate = asyncio.Semaphore(self.provider.max_concurrency)

    async def run(self, todo: Mapping[bytes, Item]) -> None:
        """Delivers a result for each content. Those that another process is paying for are waited for."""
        if self.claims is None or self.tiers is None:
            await self._send(todo)
            return

        async def send(keys: Sequence[bytes]) -> None:
            await self._send({key: todo[key] for key in keys})

        await self.claims.each_once(
            list(todo), self.tiers.look_again, send, lambda key, vector: self.deliver(key, vector, 0)
        )

    async def _send(self, todo: Mapping[bytes, Item]) -> None:
        keys = list(todo)
        lengths = self.provider.lengths([todo[key] for key in keys])
        most_items = min(self.most_items, self.provider.max_batch)
        async with asyncio.TaskGroup() as group:
            for batch in _batches(lengths, self.provider.batch_tokens, most_items):
                group.create_task(self._request({keys[i]: todo[keys[i]] for i in batch}))

    async def _request(self, given: Mapping[bytes, Item]) -> None:
        async with self._gate:
            # After the first that the endpoint failed nothing more is sent; what is under way is paid for.
            failed = None if self._lost is None else Failure(self._lost)
            items = list(given.values())
            outcomes = [(failed, 0)] * len(items) if failed else await self._timed(items)
        found = dict(zip(given, outcomes, strict=True))
        vectors = {key: result for key, (result, _) in found.items() if isinstance(result, bytes)}
        if self.tiers is not None and vectors:
            await self.tiers.put_many(vectors, self.provider.model.id)
        for key, (result, tokens) in found.items():
            self.deliver(key, result, tokens if isinstance(result, bytes) else 0)

    async def _timed(self, items: Sequence[Item]) -> list[_Outcome]:
        started = time.perf_counter()
        outcomes = await self._embed(items)
        self.meter.took("inference", time.perf_counter() - started)
        self.meter.batch(self.provider.model.id, len(items), sum(tokens for _, tokens in outcomes))
        return outcomes

    async def _embed(self, items: Sequence[Item]) -> list[_Outcome]:
        try:
            return await self._once(items)
        except (InvalidInput, Unsupported) as error:
            return _failed(error, items) if len(items) == 1 else await self._apart(items)

    async def _once(self, items: Sequence[Item]) -> list[_Outcome]:
        """Raises what is about the items; what is about the endpoint is every item's failure."""
        try:
            matrix, tokens = await self._counted(items)
            return list(zip(checked(self.provider, matrix, len(items)), tokens, strict=True))
        except EndpointError as error:
            self._lost = error
            return _failed(error, items)
        except ProviderError as error:
            return _failed(error, items)

    async def _counted(self, items: Sequence[Item]) -> tuple[Matrix, list[int]]:
        """Vectors, and each item's tokens: counted by the server where it says, else estimated."""
        if isinstance(self.provider, CountingProvider):
            return await self.provider.embed_counted(items, self.purpose)
        return await self.provider.embed(items, self.purpose), self.provider.lengths(items)

    async def _apart(self, items: Sequence[Item]) -> list[_Outcome]:
        """Halves of what was refused as a whole, and their halves, until those that are refused are alone."""
        refused: list[VectableError] = []
        taken = False
        outcomes: list[_Outcome] = []
        waiting = _halves(items)
        while waiting:
            part = waiting.pop()
            if self._lost is not None or (len(refused) >= _HOPELESS and not taken):
                outcomes += _failed(self._lost or refused[-1], part)
                continue
            try:
                outcomes += await self._once(part)
                taken = taken or self._lost is None
            except (InvalidInput, Unsupported) as error:
                if len(part) == 1:
                    refused.append(error)
                    outcomes += _failed(error, part)
                else:
                    waiting += _halves(part)
        return outcomes


def _failed(error: VectableError, items: Sequence[Item]) -> list[_Outcome]:
    return [(Failure(error), 0)] * len(items)


def _halves(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Both halves, the first one last."""
    middle = len(items) // 2
    return [items[middle:], items[:middle]]


def _batches(lengths: Sequence[int], most_tokens: int, most_items: int) -> Iterator[list[int]]:
    """Positions in order; a batch holds at most `most_items`, and at most `most_tokens` or a single item."""
    batch: list[int] = []
    tokens = 0
    for position, length in enumerate(lengths):
        if batch and (tokens + length > most_tokens or len(batch) == most_items):
            yield batch
            batch, tokens = [], 0
        batch.append(position)
        tokens += length
    if batch:
        yield batch
