"""Embedding for a request: with the model it may name, for as long as its client waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from vectable.engine.embed import Encoded
from vectable.errors import InvalidInput, ModelUnavailable, Overloaded, Unsupported
from vectable.interfaces import Item, Purpose
from vectable.providers import canonical_name
from vectable.server.routing import database_of, passage_of

T = TypeVar("T")
_PATIENCE_S = 0.02
"""From then on it is looked whether the client is still there."""


def check_model(request: Request, name: str | None) -> None:
    """A name from the network is a model's, never a path on this machine. Raises InvalidInput."""
    if name is None or database_of(request).settings.names_model(name):
        return
    canonical_name(name)
    if Path(name).exists():
        raise InvalidInput(f"{name[:120]!r} is not a model name", hint="name a model, not a directory")


async def with_model(request: Request, name: str | None, work: Callable[[], Awaitable[T]]) -> T:
    """What `work` gives, which uses the model the client named. Raises InvalidInput for a name that is none;
    a model that cannot be had here is the request's fault."""
    check_model(request, name)
    return await _named_model(work(), name)


async def _named_model(work: Awaitable[T], model: str | None) -> T:
    """What `work` gives. A model the client named that cannot be had here is the request's fault."""
    try:
        return await work
    except ModelUnavailable as error:
        if model is None:
            raise
        raise Unsupported(error.detail, hint=error.hint, context=error.context) from error


async def embed(
    request: Request,
    items: Sequence[Item],
    model: str | None,
    *,
    purpose: Purpose = "document",
    cache: bool = True,
    normalize: bool = True,
    count: bool = False,
    names: Sequence[str] | None = None,
) -> Encoded:
    """Vectors for `items` by the model the request names (None: the server's text model). `names`: what
    errors call the items. Raises what `Embedder.encode` raises, InvalidInput for a name that is none, and
    Overloaded where the request's time is over before the model came to it."""
    check_model(request, model)
    embedder = database_of(request).embedder
    if cache and not count:
        encoded = embedder.encode_at_hand(items, model, purpose=purpose, normalize_vectors=normalize)
        if encoded is not None:
            return encoded
    work = embedder.encode(
        items, model, purpose=purpose, cache=cache, normalize_vectors=normalize, count=count, names=names
    )
    return await while_waited_for(request, _named_model(work, model))


async def while_waited_for(request: Request, work: Awaitable[T]) -> T:
    """What `work` gives, unless the client goes away (ClientDisconnect), or its time is over (Overloaded):
    then the work is cancelled. The request's body must have been read."""
    task = asyncio.current_task()
    gone = False
    watching: asyncio.Task[None] | None = None

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        if task is not None:
            task.cancel()

    def begin() -> None:
        nonlocal watching
        watching = asyncio.create_task(watch())

    # Most are answered before it would be worth while to look.
    looking = asyncio.get_running_loop().call_later(_PATIENCE_S, begin)
    try:
        async with asyncio.timeout(passage_of(request).deadline - time.monotonic()):
            return await work
    except TimeoutError:
        raise Overloaded(
            "the model did not come to this request in the time it has",
            hint="send fewer inputs at once, or raise the setting request_timeout_ms",
            context={"retry_after_s": 5},
        ) from None
    except asyncio.CancelledError:
        if gone and task is not None and not task.uncancel():
            raise ClientDisconnect from None
        raise
    finally:
        looking.cancel()
        if watching is not None:
            watching.cancel()
