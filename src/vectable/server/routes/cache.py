"""The vector cache: how it does, and emptying it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from starlette.responses import Response

from vectable.server.answers import answer
from vectable.server.models.embed import CacheStats
from vectable.server.models.embeddings import ClearRequest, ClearResponse
from vectable.server.routes.embeddings import cleared
from vectable.server.routing import Route, database_of, writes
from vectable.server.spec import examples, responses

router = APIRouter(prefix="/cache", tags=["service"], route_class=Route)


@router.get(
    "/stats",
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
    await database.embedder.cache_settled()
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
    "/clear",
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
