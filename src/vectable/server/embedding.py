"""Embedding for a request: with the model it may name, for as long as its client waits."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TypeVar

from starlette.requests import Request

from vectable.engine.embed import Encoded
from vectable.errors import InvalidInput, ModelUnavailable, Unsupported
from vectable.interfaces import Item, Purpose
from vectable.providers import canonical_name
from vectable.server.routing import database_of

T = TypeVar("T")


def check_model(request: Request, name: str | None) -> None:
    """A name from the network is a model's, never a path on this machine. Raises InvalidInput."""
    if name is None or name in database_of(request).settings.named_models:
        return
    canonical_name(name)
    if Path(name).exists():
        raise InvalidInput(f"{name[:120]!r} is not a model name", hint="name a model, not a directory")


async def named_model(work: Awaitable[T], model: str | None) -> T:
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
) -> Encoded:
    """Vectors for `items` by the model the request names (None: the server's text model). Raises what
    `Embedder.encode` raises, and InvalidInput for a name that is none."""
    check_model(request, model)
    work = database_of(request).embedder.encode(
        items, model, purpose=purpose, cache=cache, normalize_vectors=normalize, count=count
    )
    return await named_model(work, model)
