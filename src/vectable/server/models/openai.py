"""Bodies in OpenAI's shapes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, WithJsonSchema

from vectable.server.models.shapes import Body

MAX_INPUTS = 2_048
_TOKENS = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}, "title": "Tokens"}
_TEXT = {"type": "string", "minLength": 1, "title": "Text"}
Input = Annotated[
    Any,
    WithJsonSchema(
        {
            "title": "Input",
            "description": "One text, or up to 2,048; or token ids of the model's own tokenizer, of one text "
            "or of several, with or without its special tokens.",
            "anyOf": [
                _TEXT,
                {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": MAX_INPUTS},
                _TOKENS,
                {"type": "array", "items": _TOKENS, "minItems": 1, "maxItems": MAX_INPUTS},
            ],
        }
    ),
]
"""Which of its forms it has is found where it is used, and named there."""


class EmbeddingsRequest(Body):
    """What to embed, in OpenAI's words."""

    input: Input
    model: Annotated[str, Field(min_length=1)]
    encoding_format: Literal["float", "base64"] | None = Field(default="float", description='null: "float".')
    dimensions: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="The model's own, or fewer where it was trained to be cut."
    )
    user: str | None = Field(default=None, description="Accepted, and put to no use.")


class EmbeddingObject(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: Annotated[
        Any,
        WithJsonSchema(
            {
                "title": "Embedding",
                "description": "Numbers, or base64 of little-endian float32.",
                "anyOf": [
                    {"type": "array", "items": {"type": "number"}},
                    {"type": "string", "contentEncoding": "base64"},
                ],
            }
        ),
    ]


class Usage(BaseModel):
    """Tokens as the model reads them: special ones included, what it cuts off not. Of a model served
    elsewhere, those that its server counted; an estimate for what the cache had, and where it says none."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: Usage


class ModelObject(BaseModel):
    id: str
    object: Literal["model"]
    created: int = Field(description="0: when a model was made is not known here.")
    owned_by: str


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[ModelObject]


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """What went wrong, as OpenAI tells it."""

    error: ErrorDetail
