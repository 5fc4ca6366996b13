"""Vectors compared with each other, and texts put in order."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Request
from starlette.responses import Response

from vectable.core.similarity import similarity
from vectable.server.answers import answer, milliseconds_since, without_nulls
from vectable.server.embedding import embed
from vectable.server.models.embed import RerankRequest, RerankResponse, SimilarityRequest, SimilarityResponse
from vectable.server.routing import Route
from vectable.server.spec import examples, responses

router = APIRouter(tags=["service"], route_class=Route)
_FEW = 2_000
"""Candidates compared at once; more are, on a thread, while others are answered."""


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
