"""Well-known models: what is known of each without loading it, and what a model's name may look like."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from typing import Literal

from vectable.config import DEFAULT_MODEL
from vectable.errors import InvalidInput, ModelNotFound, did_you_mean

DEFAULT_OWNER = "sentence-transformers"
HASHING = "hashing"
MAX_HASHING_DIMENSIONS = 16_384
_HASHING_DEFAULT = 384
EFFICIENTNET = "ml-illustrated/efficientnet-lite0"
RUNTIMES = frozenset({"onnx", "clip"})
"""What runs real models here; only a stand-in takes the place of those that need another."""

SENTENCE_TRANSFORMERS, OPENVINO = "sentence-transformers", "openvino"
CHOICES = {SENTENCE_TRANSFORMERS: ("fp32",), OPENVINO: ("bf16", "fp32", "int8")}
"""Runtimes that a name may choose, with their precisions, the default one first."""

_NAMES_LOOK_LIKE = f"names look like {DEFAULT_MODEL!r} or 'all-mpnet-base-v2'"
ModelType = Literal["sentence", "document", "image", "multimodal"]

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_RUNTIME_NAME = re.compile(
    r"(?P<model>[^?]+)\?runtime=(?P<runtime>[a-z-]+)(?:&precision=(?P<precision>[a-z0-9]+))?"
)
_HASHING_NAME = re.compile(r"hashing(?:/(?P<dimensions>[0-9]{1,6}))?(?:\?for=(?P<model>[^?]+))?")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model by its canonical name. `max_tokens` is the limit of its own configuration, special tokens
    included; `runtime` names the provider that runs it; `truncatable` says that it was trained so that the
    first components of its vectors are vectors themselves."""

    id: str
    dimensions: int
    max_tokens: int
    type: ModelType
    licence: str
    runtime: str = "onnx"
    truncatable: bool = False
    precision: str = "fp32"
    note: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeName:
    """A model's name and the runtime and precision it is to be run with, as `runtime_name` reads them."""

    model: str
    runtime: str
    precision: str

    def __str__(self) -> str:
        precision = "" if self.precision == CHOICES[self.runtime][0] else f"&precision={self.precision}"
        return f"{self.model}?runtime={self.runtime}{precision}"


@dataclass(frozen=True, slots=True)
class HashingName:
    """A name of the hashing provider, taken apart; `model` is the one it stands in for."""

    dimensions: int
    model: str | None = None

    def __str__(self) -> str:
        return f"{HASHING}/{self.dimensions}" + (f"?for={self.model}" if self.model else "")


_KNOWN = (
    KnownModel(DEFAULT_MODEL, 384, 256, "sentence", "apache-2.0"),
    KnownModel("sentence-transformers/all-MiniLM-L12-v2", 384, 128, "sentence", "apache-2.0"),
    KnownModel("sentence-transformers/all-mpnet-base-v2", 768, 384, "sentence", "apache-2.0"),
    KnownModel("sentence-transformers/paraphrase-MiniLM-L6-v2", 384, 128, "sentence", "apache-2.0"),
    KnownModel(
        "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", 384, 128, "sentence", "apache-2.0"
    ),
    KnownModel(
        "sentence-transformers/paraphrase-multilingual-mpnet-base-v2", 768, 128, "sentence", "apache-2.0"
    ),
    KnownModel("BAAI/bge-small-en-v1.5", 384, 512, "document", "mit"),
    KnownModel("BAAI/bge-base-en-v1.5", 768, 512, "document", "mit"),
    KnownModel("BAAI/bge-large-en-v1.5", 1024, 512, "document", "mit"),
    KnownModel("BAAI/bge-m3", 1024, 8192, "document", "mit"),
    KnownModel("thenlper/gte-small", 384, 512, "document", "mit"),
    KnownModel("thenlper/gte-base", 768, 512, "document", "mit"),
    KnownModel("mixedbread-ai/mxbai-embed-large-v1", 1024, 512, "document", "apache-2.0", truncatable=True),
    KnownModel("Snowflake/snowflake-arctic-embed-xs", 384, 512, "document", "apache-2.0"),
    KnownModel("Snowflake/snowflake-arctic-embed-s", 384, 512, "document", "apache-2.0"),
    KnownModel("Snowflake/snowflake-arctic-embed-m", 768, 512, "document", "apache-2.0"),
    KnownModel("sentence-transformers/clip-ViT-B-32", 512, 77, "multimodal", "", runtime="clip"),
    KnownModel("openai/clip-vit-base-patch32", 512, 77, "multimodal", "mit", runtime="clip"),
    KnownModel("openai/clip-vit-base-patch16", 512, 77, "multimodal", "mit", runtime="clip"),
    KnownModel("openai/clip-vit-large-patch14", 768, 77, "multimodal", "mit", runtime="clip"),
    KnownModel("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", 512, 77, "multimodal", "mit", runtime="clip"),
    KnownModel(
        EFFICIENTNET,
        1280,
        1,
        "image",
        "apache-2.0",
        note="Images only, not CLIP: an ImageNet classifier without its last layer, whose vectors are near "
        "where images look alike. Text cannot be searched with it.",
    ),
)
KNOWN_MODELS: dict[str, KnownModel] = {model.id: model for model in _KNOWN}


def canonical_name(name: str) -> str:
    """The one name of a model: `all-mpnet-base-v2` means `sentence-transformers/all-mpnet-base-v2`, `hashing`
    means `hashing/384`; a known model is found whatever the case of its letters. Raises InvalidInput for
    anything that is not `name` or `owner/name` in letters, digits, `.`, `_`, `-`."""
    hashing = hashing_name(name)
    if hashing is not None:
        return str(hashing)
    chosen = runtime_name(name)
    if chosen is not None:
        return str(replace(chosen, model=canonical_name(chosen.model)))
    parts = name.split("/")
    bad = len(parts) > 2 or ".." in name or "--" in name
    if bad or not all(_NAME.fullmatch(part) for part in parts):
        raise InvalidInput(
            f"{name[:120]!r} is not a model name",
            hint=_NAMES_LOOK_LIKE,
        )
    full = name if len(parts) == 2 else f"{DEFAULT_OWNER}/{name}"
    return _BY_FOLDED_NAME.get(full.casefold(), full)


def runtime_name(name: str) -> RuntimeName | None:
    """`NAME?runtime=R` or `NAME?runtime=R&precision=P`, taken apart; None for a name that chooses none.
    Raises InvalidInput for a runtime or precision that there is not."""
    if "?" not in name or hashing_name(name) is not None:
        return None
    match = _RUNTIME_NAME.fullmatch(name)
    precisions = CHOICES.get(match["runtime"], ()) if match else ()
    if match is None or not precisions or (match["precision"] or precisions[0]) not in precisions:
        offered = "; ".join(f"?runtime={r} ({', '.join(p)})" for r, p in CHOICES.items())
        raise InvalidInput(f"{name[:120]!r} is not a model name", hint=f"a name may end in {offered}")
    return RuntimeName(match["model"], match["runtime"], match["precision"] or precisions[0])


def hashing_name(name: str) -> HashingName | None:
    """`hashing`, `hashing/384` or `hashing/384?for=model`, taken apart; None for any other model's name.
    Raises InvalidInput for dimensions outside 1-16,384."""
    if not isinstance(name, str):
        raise InvalidInput(f"a model is named by a string, not {type(name).__name__}", hint=_NAMES_LOOK_LIKE)
    if not name:
        raise InvalidInput("a model's name is not empty", hint=_NAMES_LOOK_LIKE)
    if name != HASHING and not name.startswith((HASHING + "/", HASHING + "?")):
        return None
    match = _HASHING_NAME.fullmatch(name)
    dimensions = int(match["dimensions"] or _HASHING_DEFAULT) if match else 0
    if match is None or not 1 <= dimensions <= MAX_HASHING_DIMENSIONS:
        raise InvalidInput(
            f"{name[:120]!r} is not a model name",
            hint=f"the hashing model is 'hashing/N', N from 1 to {MAX_HASHING_DIMENSIONS:,}",
        )
    return HashingName(dimensions, match["model"])


def model_not_found(name: str, detail: str = "", hint: str | None = None) -> ModelNotFound:
    """The error for a model nobody here knows; the hint names the nearest of those that run here."""
    known = [*(m.id for m in _KNOWN if m.runtime in RUNTIMES), f"{HASHING}/{_HASHING_DEFAULT}"]
    if hint is None:
        # Owners are often left out: the name alone may be the nearest.
        last = {full.rpartition("/")[2]: full for full in reversed(known)}
        near = difflib.get_close_matches(name.rpartition("/")[2], last, n=3, cutoff=0.75)
        hint = did_you_mean(last[near[0]] if near else name, known, "models")
    return ModelNotFound(
        f"there is no model {name!r} here" + (f": {detail}" if detail else ""),
        hint=hint,
        context={"model": name},
    )


_BY_FOLDED_NAME = {model.id.casefold(): model.id for model in _KNOWN}
