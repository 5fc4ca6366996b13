"""Bodies about embeddings and their models."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from vectable.server.models.shapes import Body, EncodingFormat, ModelState, Vectors

Text = Annotated[str, Field(min_length=1)]


class GenerateOptions(Body):
    cache: bool = Field(default=True, description="false: neither reads nor writes the cache.")
    normalize: bool = Field(default=True, description="Scale each vector to length 1.")


class GenerateRequest(Body):
    """Texts to embed."""

    text: Text | Annotated[list[Text], Field(min_length=1, max_length=100)] = Field(
        description="One text, or 1 to 100."
    )
    model: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="The server's text model, where absent."
    )
    options: GenerateOptions = GenerateOptions()
    encoding_format: EncodingFormat = "float"


class GenerateResponse(BaseModel):
    embeddings: Vectors
    model: str
    dimensions: int
    cached: bool = Field(description="Every text's vector came from the cache.")


class ModelsResponse(BaseModel):
    models: list[ModelState]


class PreloadResponse(BaseModel):
    id: str
    dimensions: int
    load_ms: float = Field(description="Next to nothing where the model was loaded already.")


class UnloadResponse(BaseModel):
    id: str
    unloaded: bool = Field(description="Whether it was in memory.")


class ClearRequest(Body):
    """Which tiers of the vector cache to clear."""

    persistent: bool = Field(default=False, description="Also the tier kept on disk.")


class ClearResponse(BaseModel):
    cleared: int = Field(description="How many entries were removed.")
