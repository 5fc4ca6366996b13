"""What several bodies share: strictness, vectors, problems."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from vectable.server.answers import VectorFormat


class Body(BaseModel):
    """A body: a misspelt field is an error, and nothing is converted that only looks like the right type."""

    model_config = ConfigDict(extra="forbid", strict=True)


VECTOR_SHAPES: list[dict[str, Any]] = [
    {"type": "array", "items": {"type": "number"}, "minItems": 1, "title": "Numbers"},
    {
        "type": "object",
        "title": "Base64",
        "description": "Little-endian float32 components in base64.",
        "properties": {"base64": {"type": "string", "contentEncoding": "base64"}},
        "required": ["base64"],
        "additionalProperties": False,
    },
]
VectorOut = Annotated[Any, WithJsonSchema({"title": "Vector", "oneOf": VECTOR_SHAPES})]
"""`number[]`, or {"base64": …} where `encoding_format` asks for it."""
Vectors = Annotated[
    Any,
    WithJsonSchema(
        {
            "title": "Embeddings",
            "description": "One vector for one string, a list of vectors for a list.",
            "anyOf": [*VECTOR_SHAPES, {"type": "array", "items": {"oneOf": VECTOR_SHAPES}}],
        }
    ),
]
EncodingFormat = Annotated[
    VectorFormat, Field(description="How vectors are written in the answer: numbers, or base64 of float32.")
]
Key = Annotated[
    Any,
    WithJsonSchema(
        {
            "title": "Key",
            "description": "The row's key; the list of its parts where the key has several columns.",
            "anyOf": [
                {"type": "string"},
                {"type": "integer"},
                {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
            ],
        }
    ),
]
Row = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {"type": "object", "title": "Row", "description": "Values by column.", "additionalProperties": True}
    ),
]
Metric = Annotated[
    str,
    Field(
        description="cosine, euclidean or inner_product (also written dot, dot_product, ip, l2).",
        examples=["cosine"],
    ),
]


class Problem(BaseModel):
    """What went wrong (RFC 9457), in `error` as one sentence a person can act on."""

    type: str = Field(examples=["urn:vectable:error:table-not-found"])
    title: str = Field(examples=["Table not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["there is no table 'layout'"])
    code: str = Field(examples=["table-not-found"], description="See docs/errors.md.")
    hint: str | None = Field(examples=["did you mean 'layouts'?"])
    request_id: str = Field(examples=["0b0f6f7c4e6c4bd0a1d8a3f0f2a6c1e4"])
    error: str = Field(examples=["there is no table 'layout' (did you mean 'layouts'?)"])
    context: dict[str, Any] | None = Field(
        default=None, description="Facts for programs, where there are any."
    )


class ModelState(BaseModel):
    """A model this server knows. `cached`: its weights are on this machine; `loaded`: they are in memory."""

    id: str
    dimensions: int
    type: Literal["sentence", "document", "image", "multimodal"]
    cached: bool
    loaded: bool
    max_tokens: int
    modalities: list[Literal["text", "image"]]
    runtime: str = Field(description="What runs it: onnx, clip, hashing, …")
    precision: str = Field(description="Of its arithmetic; empty where it is not known.")
    licence: str = Field(description="Of the weights; empty where it is not known.")
    note: str = Field(description="What one should know before choosing it; mostly empty.")
