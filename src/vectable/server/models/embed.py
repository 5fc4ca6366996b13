"""Bodies of the embedding service, in the names its clients know."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel, WithJsonSchema

from vectable.core.similarity import MAX_CANDIDATES
from vectable.server.models.embeddings import Text
from vectable.server.models.shapes import VECTOR_SHAPES, Body, EncodingFormat, VectorOut

MAX_IMAGES = 100
ModelName = Annotated[str, Field(min_length=1)]
TextModel = Annotated[ModelName | None, Field(description="The server's text model, where absent.")]
ImageModel = Annotated[ModelName | None, Field(description="The server's image model, where absent.")]
Normalize = Annotated[bool, Field(description="Scale each vector to length 1.")]
Milliseconds = Annotated[float, Field(description="Milliseconds.")]
Vector = Annotated[Any, WithJsonSchema({"title": "Vector", "oneOf": VECTOR_SHAPES})]
"""Checked where it is used: a look at each of its numbers here would cost more than comparing them."""
Candidates = Annotated[
    Any,
    WithJsonSchema(
        {
            "title": "Candidates",
            "description": 'Vectors; or all of them, one after the other, as one {"base64": …}.',
            "anyOf": [
                {"type": "array", "maxItems": MAX_CANDIDATES, "items": {"oneOf": VECTOR_SHAPES}},
                VECTOR_SHAPES[1],
            ],
        }
    ),
]


class EmbedTextRequest(Body):
    """Texts to embed."""

    texts: Annotated[list[Text], Field(min_length=1, max_length=1_000)]
    model: TextModel = None
    normalize: Normalize = True
    encoding_format: EncodingFormat = "float"


class EmbedResponse(BaseModel):
    embeddings: list[VectorOut]
    model: str
    dimensions: int
    processingTime: Milliseconds  # noqa: N815
    cached: bool = Field(description="Every vector came from the cache.")


_IMAGE: dict[str, Any] = {
    "title": "Image",
    "description": "A data: URI, an http(s) address, {base64}, or a path in the server's media root.",
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "object",
            "properties": {"base64": {"type": "string", "contentEncoding": "base64"}},
            "required": ["base64"],
            "additionalProperties": False,
        },
    ],
}
Image = Annotated[Any, WithJsonSchema(_IMAGE)]
"""Read where it is used: by address, path or from the body."""


class EmbedImageRequest(Body):
    """Images to embed."""

    images: Annotated[list[Image], Field(min_length=1, max_length=MAX_IMAGES)]
    model: ImageModel = None
    normalize: Normalize = True
    encoding_format: EncodingFormat = "float"


class TextItem(Body):
    text: Text


class ImageItem(Body):
    image: Image


class EmbedBatchRequest(Body):
    """Texts and images, mixed. At most `batchSize` are embedded at a time."""

    items: Annotated[list[TextItem | ImageItem], Field(min_length=1, max_length=1_000)]
    batchSize: Annotated[int, Field(ge=1, le=1_000)] = 100  # noqa: N815
    encoding_format: EncodingFormat = "float"


class BatchItem(BaseModel):
    model: str
    dimensions: int


class EmbedBatchResponse(BaseModel):
    embeddings: list[VectorOut] = Field(description="In the order of the items.")
    model: str = Field(description="The text model.")
    totalItems: int  # noqa: N815
    batchesProcessed: int  # noqa: N815
    totalTime: Milliseconds  # noqa: N815
    avgTimePerItem: Milliseconds  # noqa: N815
    items: list[BatchItem] = Field(description="Which model made each vector.")


class SimilarityRequest(Body):
    """A vector, and those to compare it with."""

    query: Vector
    candidates: Candidates
    topK: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] = 10  # noqa: N815
    threshold: float | None = Field(default=None, description="The least score to be given back.")
    metric: Literal["cosine", "euclidean", "dot"] = "cosine"


class Scored(BaseModel):
    """A candidate by its position. Higher scores are better: cos θ, 1 / (1 + distance), or the product."""

    index: int
    score: float


class SimilarityResponse(BaseModel):
    results: list[Scored]
    processingTime: Milliseconds  # noqa: N815


class RerankRequest(Body):
    """A question, and the texts to put in order by how well they answer it."""

    query: Text
    texts: Annotated[list[Text], Field(min_length=1, max_length=1_000)]
    model: TextModel = None
    return_text: bool = False


class Ranked(BaseModel):
    """A text by its position, and the cosine of its vector and the query's."""

    index: int
    score: float
    text: str | None = None


class RerankResponse(RootModel[list[Ranked]]):
    """Best first."""


class PersistentTier(BaseModel):
    size: int = Field(description="Entries.")
    bytes: int


class CacheStats(BaseModel):
    """The memory tier, and the one kept on disk. Hits in either count."""

    size: int = Field(description="Entries in memory.")
    maxSize: int  # noqa: N815
    hits: int
    misses: int
    hitRate: float = Field(description="0 to 1; 0 before the first question.")  # noqa: N815
    evictions: int
    bytes: int
    persistent: PersistentTier
