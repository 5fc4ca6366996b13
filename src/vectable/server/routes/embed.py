"""Texts and images to vectors: the embedding service."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Request
from starlette.responses import Response

from vectable.server.answers import answer, milliseconds_since
from vectable.server.embedding import embed
from vectable.server.models.embed import EmbedResponse, EmbedTextRequest
from vectable.server.routing import Route
from vectable.server.spec import examples, responses

router = APIRouter(tags=["service"], route_class=Route)
_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


@router.post(
    "/embed/text",
    summary="Embed texts",
    responses=responses(
        EmbedResponse,
        {
            "embeddings": [[0.12, -0.07, 0.31]],
            "model": _MODEL,
            "dimensions": 384,
            "processingTime": 3.4,
            "cached": False,
        },
        refuses=(404, 422),
        body=True,
    ),
)
async def embed_texts(
    request: Request,
    body: Annotated[
        EmbedTextRequest,
        examples(
            texts={"texts": ["how to debounce a search box", "how to throttle scrolling"]},
            a_model_by_name={"texts": ["red"], "model": "all-MiniLM-L6-v2", "normalize": False},
        ),
    ],
) -> Response:
    """Vectors of up to a thousand texts, in their order. `cached`: all of them came from the cache."""
    started = time.perf_counter()
    encoded = await embed(request, body.texts, body.model, normalize=body.normalize)
    found = {
        "embeddings": encoded.vectors,
        "model": encoded.model,
        "dimensions": encoded.dimensions,
        "processingTime": milliseconds_since(started),
        "cached": all(encoded.cached),
    }
    return answer(found, vectors=body.encoding_format)
