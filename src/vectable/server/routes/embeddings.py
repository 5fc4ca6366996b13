"""Embeddings: texts to vectors, the models there are, their cache."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from starlette.responses import Response

from vectable.server.answers import answer
from vectable.server.embedding import check_model, embed, with_model
from vectable.server.models.embeddings import (
    ClearRequest,
    ClearResponse,
    GenerateRequest,
    GenerateResponse,
    ModelsResponse,
    PreloadResponse,
    UnloadResponse,
)
from vectable.server.models.shapes import ModelState
from vectable.server.routing import Route, database_of, writes
from vectable.server.spec import EXAMPLE_MODEL, examples, responses

router = APIRouter(prefix="/api/v1/embeddings", tags=["embeddings"], route_class=Route)


@router.post(
    "/generate",
    summary="Embed texts",
    responses=responses(
        GenerateResponse,
        {"embeddings": [0.12, -0.07, 0.31], "model": EXAMPLE_MODEL, "dimensions": 384, "cached": False},
        refuses=(404, 422),
        body=True,
    ),
)
async def generate(
    request: Request,
    body: Annotated[
        GenerateRequest,
        examples(
            one_text={"text": "how to debounce a search box"},
            several_texts={"text": ["red", "green"], "model": EXAMPLE_MODEL, "options": {"cache": False}},
        ),
    ],
) -> Response:
    """Vectors of one text, or of up to a hundred. `cached` says that all of them came from the cache."""
    single = isinstance(body.text, str)
    texts = [body.text] if isinstance(body.text, str) else body.text
    encoded = await embed(
        request, texts, body.model, cache=body.options.cache, normalize=body.options.normalize
    )
    found = {
        "embeddings": encoded.vectors[0] if single else encoded.vectors,
        "model": encoded.model,
        "dimensions": encoded.dimensions,
        "cached": all(encoded.cached),
    }
    return answer(found, vectors=body.encoding_format)


@router.get(
    "/models",
    summary="List models",
    responses=responses(
        ModelsResponse,
        {
            "models": [
                {
                    "id": EXAMPLE_MODEL,
                    "dimensions": 384,
                    "type": "sentence",
                    "cached": True,
                    "loaded": True,
                    "max_tokens": 256,
                    "modalities": ["text"],
                    "runtime": "onnx",
                    "precision": "fp32",
                    "licence": "apache-2.0",
                    "note": "",
                }
            ]
        },
    ),
)
async def list_models(request: Request) -> Response:
    """The models known here. `cached`: the weights are on this machine."""
    cards = database_of(request).embedder.cards()
    return answer(
        {"models": [{name: getattr(card, name) for name in ModelState.model_fields} for card in cards]}
    )


@router.post(
    "/models/{id:path}/preload",
    summary="Load a model ahead of use",
    responses=responses(
        PreloadResponse, {"id": EXAMPLE_MODEL, "dimensions": 384, "load_ms": 412.5}, refuses=(404, 422)
    ),
)
@writes
async def preload(
    request: Request,
    id: Annotated[str, PathParameter(description="A model's id, slashes and all.", examples=[EXAMPLE_MODEL])],
) -> Response:
    """Brings a model into memory. Repeating it costs nothing."""
    embedder = database_of(request).embedder
    card, load_ms = await with_model(request, id, partial(embedder.preload, id))
    return answer({"id": card.id, "dimensions": card.dimensions, "load_ms": round(load_ms, 3)})


@router.post(
    "/models/{id:path}/unload",
    summary="Let go of a model",
    responses=responses(UnloadResponse, {"id": EXAMPLE_MODEL, "unloaded": True}, refuses=(404, 422)),
)
@writes
async def unload(
    request: Request,
    id: Annotated[str, PathParameter(description="A model's id, slashes and all.", examples=[EXAMPLE_MODEL])],
) -> Response:
    """Gives back a model's memory; its next use loads it again. `unloaded` false: it was not in memory."""
    check_model(request, id)
    embedder = database_of(request).embedder
    card = await embedder.card(id)
    return answer({"id": card.id, "unloaded": await embedder.unload(id)})


@router.post(
    "/cache/clear",
    summary="Clear the vector cache",
    responses=responses(ClearResponse, {"cleared": 1284}, body=True),
)
@writes
async def clear_cache(
    request: Request,
    body: Annotated[ClearRequest | None, examples(memory={}, both_tiers={"persistent": True})] = None,
) -> Response:
    """Forgets cached vectors: the memory tier, or with `persistent` the tier on disk too."""
    return await cleared(request, body)


async def cleared(request: Request, body: ClearRequest | None) -> Response:
    """Clears what the body says, and how many entries went."""
    persistent = body is not None and body.persistent
    return answer({"cleared": await database_of(request).embedder.clear_cache(persistent)})
