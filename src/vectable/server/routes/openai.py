"""OpenAI's embeddings API: its clients work unchanged."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from starlette.responses import Response

from vectable.core.recipe import Tokens
from vectable.core.vectors import normalize
from vectable.errors import InvalidInput, ModelNotFound, ModelUnavailable, VectableError
from vectable.interfaces import Item, ModelCard
from vectable.server.answers import answer
from vectable.server.embedding import check_model, embed
from vectable.server.models.openai import (
    MAX_INPUTS,
    EmbeddingsRequest,
    EmbeddingsResponse,
    ModelList,
    ModelObject,
)
from vectable.server.routing import Route, database_of
from vectable.server.spec import EXAMPLE_MODEL, examples, responses

router = APIRouter(prefix="/v1", tags=["openai"], route_class=Route)
_ONE_MODEL = {"id": EXAMPLE_MODEL, "object": "model", "created": 0, "owned_by": "sentence-transformers"}
T = TypeVar("T")


@router.post(
    "/embeddings",
    summary="Embed, as OpenAI does",
    responses=responses(
        EmbeddingsResponse,
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.12, -0.07, 0.31]}],
            "model": EXAMPLE_MODEL,
            "usage": {"prompt_tokens": 10, "total_tokens": 10},
        },
        refuses=(404, 422),
        body=True,
        openai=True,
    ),
)
async def create_embeddings(
    request: Request,
    body: Annotated[
        EmbeddingsRequest,
        examples(
            one_text={"input": "how to debounce a search box", "model": EXAMPLE_MODEL},
            several_texts={"input": ["red", "green"], "model": EXAMPLE_MODEL, "encoding_format": "base64"},
            token_ids={"input": [[2417], [2665]], "model": EXAMPLE_MODEL},
        ),
    ],
) -> Response:
    """Vectors of length 1. An error is OpenAI's error object."""
    items = _items(body.input)
    size = await _about("model", _size(request, body.model, body.dimensions))
    encoded = await _about("input", embed(request, items, body.model, count=True))
    vectors = encoded.vectors if size is None else normalize(encoded.vectors[:, :size])
    written: Any = vectors
    if body.encoding_format == "base64":
        little = vectors.astype("<f4", copy=False)
        written = [b64encode(np.ascontiguousarray(v).tobytes()).decode("ascii") for v in little]
    data = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(written)]
    usage = {"prompt_tokens": encoded.tokens_read, "total_tokens": encoded.tokens_read}
    return answer({"object": "list", "data": data, "model": encoded.model, "usage": usage})


def _items(given: Any) -> list[Item]:
    if isinstance(given, str):
        return [_text(given, "input")]
    if not isinstance(given, list) or not given:
        raise _wrong("input", "must be a text, texts, or token ids, and not empty")
    if type(given[0]) is int:
        return [_tokens(given, "input")]
    if len(given) > MAX_INPUTS:
        raise _wrong("input", f"must have at most {MAX_INPUTS:,} items, not {len(given):,}")
    return [_item(each, f"input[{i}]", given[0]) for i, each in enumerate(given)]


def _item(each: Any, where: str, first: Any) -> Item:
    return _tokens(each, where) if isinstance(first, list) else _text(each, where)


def _text(given: Any, where: str) -> str:
    if not isinstance(given, str):
        raise _wrong(where, "must be a string")
    if not given:
        raise _wrong(where, "may not be empty")
    return given


def _tokens(given: Any, where: str) -> Tokens:
    if not isinstance(given, list) or set(map(type, given)) - {int}:
        raise _wrong(where, "must be a list of token ids: whole numbers")
    if not given:
        raise _wrong(where, "may not be empty")
    if min(given) < 0 or max(given) >= 1 << 31:
        raise _wrong(where, "holds a number that is no token id")
    return Tokens(tuple(given))


def _wrong(where: str, words: str) -> InvalidInput:
    return InvalidInput(f"`{where}` {words}", context={"field": "input"})


async def _about(field: str, work: Awaitable[T]) -> T:
    """What `work` gives; an error of the request's says that it is about that field."""
    try:
        return await work
    except VectableError as error:
        if isinstance(error, ModelNotFound) or isinstance(error.__cause__, ModelUnavailable):
            error.context["field"] = "model"
        elif not error.retryable:
            error.context.setdefault("field", field)
        raise


async def _card(request: Request, model: str) -> ModelCard:
    check_model(request, model)
    return await database_of(request).embedder.card(model)


async def _size(request: Request, model: str, wanted: int | None) -> int | None:
    """What vectors are to be cut to; None: they stay as they are."""
    check_model(request, model)
    if wanted is None:
        return None
    card = await _card(request, model)
    if wanted == card.dimensions:
        return None
    if card.truncatable and wanted < card.dimensions:
        return wanted
    can = f"up to {card.dimensions}" if card.truncatable else f"{card.dimensions} alone"
    raise InvalidInput(
        f"{card.id} has no vectors of {wanted} dimensions",
        hint=f"it has {can}",
        context={"field": "dimensions"},
    )


@router.get(
    "/models",
    summary="List models, as OpenAI does",
    responses=responses(ModelList, {"object": "list", "data": [_ONE_MODEL]}, openai=True),
)
async def list_openai_models(request: Request) -> Response:
    """The models that can be named here."""
    cards = database_of(request).embedder.cards()
    return answer({"object": "list", "data": [_object(card) for card in cards]})


@router.get(
    "/models/{id:path}",
    summary="Describe a model, as OpenAI does",
    responses=responses(ModelObject, _ONE_MODEL, refuses=(404,), openai=True),
)
async def get_openai_model(
    request: Request,
    id: Annotated[str, PathParameter(description="A model's id, slashes and all.", examples=[EXAMPLE_MODEL])],
) -> Response:
    """One of the models that can be named here."""
    return answer(_object(await _about("model", _card(request, id))))


def _object(card: ModelCard) -> dict[str, Any]:
    owner = card.id.partition("/")[0]
    return {"id": card.id, "object": "model", "created": 0, "owned_by": owner}
