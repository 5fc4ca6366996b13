"""Models: what makes their vectors comparable, and what is known of one before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """`fingerprint` names what makes vectors comparable: weights, runtime, precision, pooling, token
    limit."""

    id: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.id}@{self.fingerprint}"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of a model without loading it. `cached`: its weights are on this machine."""

    id: str
    dimensions: int
    max_tokens: int
    type: Literal["sentence", "document", "image", "multimodal"]
    cached: bool
    loaded: bool = False
    licence: str = ""
    runtime: str = ""
    truncatable: bool = False
    """Its vectors may be cut to their first components, and made of length 1 again: it was trained for it."""
    precision: str = ""
    """Of its arithmetic, e.g. fp32; "" where it is not known (a remote model)."""
    note: str = ""
    """What one should know before choosing it."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it embeds: text, image or both."""
        return {"image": ("image",), "multimodal": ("text", "image")}.get(self.type, ("text",))
