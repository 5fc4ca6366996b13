"""Remote models: any server that speaks OpenAI's embeddings format, guarded, with endpoints in reserve."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import orjson
from blake3 import blake3

from vectable.core.vectors import Matrix
from vectable.errors import Unsupported, VectableError
from vectable.interfaces import Item, ModelIdentity, Purpose
from vectable.providers.guard.attempt import Answered, AttemptFailed
from vectable.providers.guard.guarded import GuardedEndpoint
from vectable.providers.openai_http import EndpointClient
from vectable.providers.openai_models import Model
from vectable.providers.openai_wire import Asked, likely_tokens, most_tokens, request_body, texts_of

log = logging.getLogger(__name__)
_Counted = tuple[Matrix, int | None]
"""Vectors, and the tokens that the endpoint counted for them, where it says."""


@dataclass(frozen=True, slots=True)
class Served:
    """An endpoint of a model: how it is asked, and what guards it."""

    client: EndpointClient
    guard: GuardedEndpoint


class OpenAIProvider:
    """A remote model. Asked in the order of its endpoints: another one is asked only when those before it
    gave nothing, and serves the same model by declaration. Bound to no event loop."""

    modalities = frozenset({"text"})

    def __init__(self, id: str, declared: Model, endpoints: Sequence[Served]) -> None:
        self.model = ModelIdentity(id, fingerprint(declared))
        self.dimensions = declared.dimensions
        self.max_tokens = declared.max_tokens
        self.max_batch = declared.max_items
        self.batch_tokens = declared.max_request_tokens
        self.max_concurrency = declared.max_concurrency
        self.paid = declared.paid
        self.normalizes = declared.normalize
        self._declared = declared
        self._endpoints = list(endpoints)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model.id!r})"

    def prompt(self, purpose: Purpose) -> str:
        """What the models file says is put before a text of that purpose."""
        return self._declared.query_prompt if purpose == "query" else self._declared.document_prompt

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """About how many tokens each item has: the tokenizer is elsewhere."""
        return [min(likely_tokens(i), self.max_tokens) if isinstance(i, str) else 1 for i in items]

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> Matrix:
        """float32[len(items), dimensions], in as many requests as the declared limits ask for; a row that the
        model could not make is NaN. Raises InvalidInput (the endpoint does not take a text), Unsupported,
        SpendCapReached (nothing was sent), EndpointError's kinds."""
        return (await self.embed_counted(items, purpose))[0]

    async def embed_counted(self, items: Sequence[Item], purpose: Purpose) -> tuple[Matrix, list[int]]:
        """What `embed` gives, and the tokens of each item: its share of what the endpoint says it counted, or
        an estimate (a token for every four bytes) where it does not say. Raises as `embed` does."""
        if not all(isinstance(item, str) for item in items):
            raise Unsupported(f"{self.model.id} embeds text, not images", hint="use another model")
        texts = texts_of(items, self._declared, self.prompt(purpose))
        out = np.empty((len(texts), self.dimensions), dtype=np.float32)
        lengths, tokens = self.lengths(texts), list[int]()
        for start, end in requests(lengths, self.batch_tokens, self.max_batch):
            out[start:end], counted = await self._ask(texts[start:end])
            tokens += shares(counted, lengths[start:end])
        return out, tokens

    async def _ask(self, texts: list[str]) -> _Counted:
        likely, most = sum(map(likely_tokens, texts)), sum(map(most_tokens, texts))
        failures: list[VectableError] = []
        for served in self._endpoints:
            send = partial(self._send, served.client, texts)
            try:
                return await served.guard.call(send, likely_tokens=likely, most_tokens=most)
            except AttemptFailed as failed:
                if not failed.elsewhere:
                    raise failed.error from None
                failures.append(failed.error)
                log.info("%s: %s", self.model.id, failed.error.detail)
        # What may pass by itself is told first: trying again is what helps then.
        raise next((error for error in failures if error.retryable), failures[0])

    async def _send(self, client: EndpointClient, texts: list[str]) -> Answered[_Counted]:
        endpoint = client.endpoint
        asked = Asked(endpoint.host, endpoint.model, texts, self.dimensions)
        dimensions = self.dimensions if endpoint.send_dimensions else None
        body = request_body(texts, endpoint.model, endpoint.encoding_format, dimensions, endpoint.body)
        answered = await client.ask(body, asked)
        return Answered((answered.value, answered.tokens), answered.tokens)

    def status(self) -> list[dict[str, Any]]:
        """What happened to each endpoint in this process: its host, its breaker's state (closed, open,
        half-open), what was counted."""
        return [
            {
                "model": self.model.id,
                "host": served.guard.host,
                "backup": position > 0,
                "breaker": served.guard.breaker.state,
                "breaker_opened": served.guard.breaker.opened,
                "in_flight": served.guard.in_flight,
                **asdict(served.guard.counts),
            }
            for position, served in enumerate(self._endpoints)
        ]

    async def close(self) -> None:
        """Closes the connections of this event loop."""
        for served in self._endpoints:
            await served.client.close()


def fingerprint(declared: Model) -> str:
    """What makes vectors of a remote model comparable: what is served, at how many dimensions, of how much of
    a text, with which additions to the request. Where it is served is no part of it."""
    parts = ["remote", declared.identity or declared.model, str(declared.dimensions)]
    if declared.max_characters is not None:
        parts.append(f"{declared.max_characters}c")
    if declared.body:
        body = orjson.dumps(declared.body, default=float, option=orjson.OPT_SORT_KEYS)
        parts.append(blake3(body).hexdigest()[:16])
    return ":".join(parts)


def shares(total: int | None, weights: Sequence[int]) -> list[int]:
    """`total` dealt out in proportion to `weights`, which are positive, to the last one; the weights
    themselves where there is no total."""
    if total is None:
        return list(weights)
    whole = sum(weights)
    until = [total * so_far // whole for so_far in accumulate(weights, initial=0)]
    return [end - start for start, end in pairwise(until)]


def requests(lengths: Sequence[int], most_tokens: int, most_items: int) -> Iterator[tuple[int, int]]:
    """Ranges of positions, in order, each of at most `most_items` items and, unless it is a single item, at
    most `most_tokens` tokens."""
    start = tokens = 0
    for position, length in enumerate(lengths):
        if position > start and (tokens + length > most_tokens or position - start == most_items):
            yield start, position
            start, tokens = position, 0
        tokens += length
    if start < len(lengths):
        yield start, len(lengths)
