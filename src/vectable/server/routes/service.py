"""The embedding service: texts to vectors, and vectors compared."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Request
from starlette.responses import Response

from vectable.core.similarity import similarity
from vectable.server.answers import answer, without_nulls
from vectable.server.embedding import embed
from vectable.server.models.embeddings import ClearRequest, ClearResponse
from vectable.server.models.service import (
    CacheStats,
    EmbedResponse,
    EmbedTextRequest,
    RerankRequest,
    RerankResponse,
    SimilarityRequest,
    SimilarityResponse,
)
from vectable.server.routes.embeddings import cleared
from vectable.server.routing import Route, database_of, writes
from vectable.server.spec import examples, responses

router = APIRouter(tags=["service"], route_class=Route)
_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_FEW = 2_000
"""Candidates compared at once; more are, on a thread, while others are answered."""


def milliseconds_since(started: float) -> float:
    """Of `time.perf_counter()`, to the microsecond."""
    return round((time.perf_counter() - started) * 1000, 3)


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


@router.post(
    "/similarity",
    summary="Compare vectors",
    responses=responses(
        SimilarityResponse,
        {"results": [{"index": 1, "score": 0.98}, {"index": 0, "score": 0.2}], "processingTime": 0.05},
        body=True,
    ),
)
async def compare_vectors(
    request: Request,
    body: Annotated[
        SimilarityRequest,
        examples(
            nearest={"query": [1.0, 0.0], "candidates": [[0.2, 1.0], [1.0, 0.2]], "topK": 2},
            by_distance={"query": [1.0, 0.0], "candidates": [[1.0, 0.0], [0.0, 1.0]], "metric": "euclidean"},
        ),
    ],
) -> Response:
    """The best `topK` candidates, score descending, then position ascending."""
    started = time.perf_counter()
    asked = (body.query, body.candidates, body.topK, body.threshold, body.metric)
    few = isinstance(body.candidates, list) and len(body.candidates) < _FEW
    matches = similarity(*asked) if few else await asyncio.to_thread(similarity, *asked)
    results = [{"index": match.index, "score": match.score} for match in matches]
    return answer({"results": results, "processingTime": milliseconds_since(started)})


@router.post(
    "/rerank",
    summary="Put texts in order",
    responses=responses(
        RerankResponse,
        [{"index": 1, "score": 0.71, "text": "wait until typing stops"}, {"index": 0, "score": 0.12}],
        refuses=(404, 422),
        body=True,
    ),
)
async def rerank(
    request: Request,
    body: Annotated[
        RerankRequest,
        examples(
            two_texts={
                "query": "how to debounce a search box",
                "texts": ["red and green", "wait until typing stops"],
                "return_text": True,
            }
        ),
    ],
) -> Response:
    """The texts by the cosine of their vectors and the query's, best first, then by position."""
    query, texts = await asyncio.gather(
        embed(request, [body.query], body.model, purpose="query"), embed(request, body.texts, body.model)
    )
    matches = similarity(query.vectors[0], texts.vectors, top_k=len(body.texts))
    text = body.texts if body.return_text else [None] * len(body.texts)
    ranked = [{"index": m.index, "score": m.score, "text": text[m.index]} for m in matches]
    return answer([without_nulls(each, "text") for each in ranked])


@router.get(
    "/cache/stats",
    summary="Tell how the vector cache does",
    responses=responses(
        CacheStats,
        {
            "size": 812,
            "maxSize": 10_000,
            "hits": 5_120,
            "misses": 812,
            "hitRate": 0.863,
            "evictions": 0,
            "bytes": 1_435_616,
            "persistent": {"size": 4_096, "bytes": 6_291_456},
        },
    ),
)
async def cache_stats(request: Request) -> Response:
    """The tier in memory, and the one on disk. Hits in either tier count as hits."""
    database = database_of(request)
    stats = database.embedder.cache_stats()
    size, size_bytes = await database.cache.size()
    asked = stats["hits"] + stats["misses"]
    found = {
        "size": stats["size"],
        "maxSize": stats["max_size"],
        "hits": stats["hits"],
        "misses": stats["misses"],
        "hitRate": stats["hits"] / asked if asked else 0.0,
        "evictions": stats["evictions"],
        "bytes": stats["bytes"],
        "persistent": {"size": size, "bytes": size_bytes},
    }
    return answer(found)


@router.post(
    "/cache/clear",
    summary="Clear the vector cache",
    responses=responses(ClearResponse, {"cleared": 812}, body=True),
)
@writes
async def clear(
    request: Request,
    body: Annotated[ClearRequest | None, examples(memory={}, both_tiers={"persistent": True})] = None,
) -> Response:
    """Forgets cached vectors: the memory tier, or with `persistent` the tier on disk too."""
    return await cleared(request, body)
