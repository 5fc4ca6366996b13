"""Texts and images to vectors: the embedding service."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from vectable.engine.embed import Encoded
from vectable.ingest.strict_json import parse_json
from vectable.server.answers import VectorFormat, answer, milliseconds_since
from vectable.server.embedding import check_model, embed, while_waited_for
from vectable.server.forms import FORM, read_form
from vectable.server.images import image_model, read_images
from vectable.server.limits import read_body
from vectable.server.models.embed import (
    MAX_IMAGES,
    EmbedBatchRequest,
    EmbedBatchResponse,
    EmbedImageRequest,
    EmbedResponse,
    EmbedTextRequest,
    ImageItem,
    TextItem,
)
from vectable.server.routing import (
    Route,
    check_encoding,
    checked_body,
    database_of,
    is_json,
    limits_of,
    media_type_of,
    unsupported_media_type,
)
from vectable.server.spec import EXAMPLE_MODEL, examples, responses

router = APIRouter(tags=["service"], route_class=Route)
_IMAGE_MODEL = "openai/clip-vit-base-patch32"
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mM4IScHAAK2AQUKW6YGAAAAAElFTkSuQmCC"
"""A PNG of one pixel: an example that can be sent as it stands."""
_EMBEDDED = {
    "embeddings": [[0.12, -0.07, 0.31]],
    "model": EXAMPLE_MODEL,
    "dimensions": 384,
    "processingTime": 3.4,
    "cached": False,
}


@router.post(
    "/embed/text",
    summary="Embed texts",
    responses=responses(EmbedResponse, _EMBEDDED, refuses=(404, 422), body=True),
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
    return _embedded(encoded, started, body.encoding_format)


def _embedded(encoded: Encoded, started: float, format: VectorFormat) -> Response:
    found = {
        "embeddings": encoded.vectors,
        "model": encoded.model,
        "dimensions": encoded.dimensions,
        "processingTime": milliseconds_since(started),
        "cached": all(encoded.cached),
    }
    return answer(found, vectors=format)


_IMAGE_BODIES: dict[str, Any] = {
    "application/json": {
        "schema": {"$ref": "#/components/schemas/EmbedImageRequest"},
        "examples": {
            "in_the_body": {"summary": "in the body", "value": {"images": [{"base64": _PIXEL}]}},
            "by_path": {
                "summary": "by path, in the media root",
                "value": {"images": ["cats/tom.jpg"], "model": "openai/clip-vit-base-patch32"},
            },
        },
    },
    FORM: {
        "schema": {
            "type": "object",
            "properties": {
                "images": {"type": "array", "items": {"type": "string", "format": "binary"}},
                "model": {"type": "string"},
                "normalize": {"type": "string", "enum": ["true", "false"]},
                "encoding_format": {"type": "string", "enum": ["float", "base64"]},
            },
            "required": ["images"],
        },
        "example": {"images": ["(the content of a file)"], "normalize": "true"},
    },
}


@router.post(
    "/embed/image",
    summary="Embed images",
    responses=responses(EmbedResponse, {**_EMBEDDED, "model": _IMAGE_MODEL}, refuses=(404, 422), body=True),
    openapi_extra={"requestBody": {"required": True, "content": _IMAGE_BODIES}},
)
async def embed_images(request: Request) -> Response:
    """Vectors of up to a hundred images, in their order: named in JSON, or the files of a form."""
    started = time.perf_counter()
    check_encoding(request)
    media_type = media_type_of(request)
    most = limits_of(request).max_body
    if media_type == FORM:
        files, fields = await read_form(request, most, MAX_IMAGES)
        body = checked_body(EmbedImageRequest, {"images": files, **_typed(fields)})
    elif is_json(media_type):
        body = checked_body(EmbedImageRequest, parse_json(await read_body(request, most)))
    else:
        raise unsupported_media_type(media_type, f"application/json or {FORM}")
    model = image_model(request, body.model)
    check_model(request, model)
    names = [f"image {i}" for i in range(len(body.images))]
    images = await while_waited_for(request, read_images(request, body.images, names))
    encoded = await embed(request, images, model, normalize=body.normalize, names=names)
    return _embedded(encoded, started, body.encoding_format)


def _typed(fields: Mapping[str, str]) -> dict[str, Any]:
    """A form's fields, which are all text, as JSON would have them."""
    typed: dict[str, Any] = dict(fields)
    if typed.get("normalize") in ("true", "false"):
        typed["normalize"] = typed["normalize"] == "true"
    return typed


@router.post(
    "/embed/batch",
    summary="Embed texts and images",
    responses=responses(
        EmbedBatchResponse,
        {
            "embeddings": [[0.12, -0.07, 0.31], [0.02, 0.4, -0.1]],
            "model": EXAMPLE_MODEL,
            "totalItems": 2,
            "batchesProcessed": 1,
            "totalTime": 42.5,
            "avgTimePerItem": 21.25,
            "items": [
                {"model": EXAMPLE_MODEL, "dimensions": 384},
                {"model": _IMAGE_MODEL, "dimensions": 512},
            ],
        },
        refuses=(404, 422),
        body=True,
    ),
)
async def embed_batch(
    request: Request,
    body: Annotated[
        EmbedBatchRequest,
        examples(
            texts={"items": [{"text": "red"}, {"text": "green"}], "batchSize": 100},
            texts_and_images={"items": [{"text": "a cat"}, {"image": "cats/tom.jpg"}]},
        ),
    ],
) -> Response:
    """Vectors of up to a thousand texts and images, in their order, by the server's models for them."""
    started = time.perf_counter()
    vectors: list[Any] = []
    items: list[dict[str, Any]] = []
    for at in range(0, len(body.items), body.batchSize):
        for encoded, row in await _batch(request, body.items[at : at + body.batchSize], at):
            vectors.append(encoded.vectors[row])
            items.append({"model": encoded.model, "dimensions": encoded.dimensions})
    total_ms = milliseconds_since(started)
    found = {
        "embeddings": vectors,
        "model": (await database_of(request).embedder.card(None)).id,
        "totalItems": len(items),
        "batchesProcessed": math.ceil(len(items) / body.batchSize),
        "totalTime": total_ms,
        "avgTimePerItem": round(total_ms / len(items), 6),
        "items": items,
    }
    return answer(found, vectors=body.encoding_format)


async def _batch(
    request: Request, items: Sequence[TextItem | ImageItem], at: int
) -> list[tuple[Encoded, int]]:
    """For each item, what holds its vector, and in which row. `at`: the position of the first item."""
    texts = [i for i, item in enumerate(items) if isinstance(item, TextItem)]
    images = [i for i, item in enumerate(items) if isinstance(item, ImageItem)]
    found: dict[int, tuple[Encoded, int]] = {}
    if texts:
        contents = [item.text for item in items if isinstance(item, TextItem)]
        encoded = await embed(request, contents, None, names=[f"item {at + i}" for i in texts])
        found |= {i: (encoded, row) for row, i in enumerate(texts)}
    if images:
        model, names = image_model(request, None), [f"item {at + i}" for i in images]
        given = [item.image for item in items if isinstance(item, ImageItem)]
        contents_read = await while_waited_for(request, read_images(request, given, names))
        encoded = await embed(request, contents_read, model, names=names)
        found |= {i: (encoded, row) for row, i in enumerate(images)}
    return [found[i] for i in range(len(items))]
