"""Remote models as the models file declares them: checked when read, secrets named and never held.

The file is TOML; each `[models."ID"]` is a model. What a model may say is the fields of `Model` and
`Endpoint` below.
"""

from __future__ import annotations

import ipaddress
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vectable.errors import InvalidInput
from vectable.providers.catalog import canonical_name, hashing_name

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Price = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
E = TypeVar("E", bound="Endpoint")
_SHAPE = ConfigDict(extra="forbid", frozen=True)
_OWN_FIELDS = frozenset({"model", "input", "encoding_format", "dimensions"})


class Endpoint(BaseModel):
    """Where a model is served, and how it is to be asked. Each has its own key, price and limits."""

    model_config = _SHAPE

    url: str
    """The address that `/embeddings` is appended to, e.g. https://api.openai.com/v1."""
    model: str = ""
    """What the endpoint calls the model; by default the model's id here."""
    identity: str = ""
    """What is served, in words that two endpoints share only where their vectors are comparable; by default
    `model`."""
    api_key_env: str = ""
    """The environment variable that holds the key."""
    api_key_header: str = "authorization"
    """The header the key goes into; in `authorization` it follows the word Bearer."""
    allow_plain_http: bool = False
    """Whether the key may travel unencrypted to a host that is not this machine."""
    query: dict[str, str] = {}
    """Added to the address, e.g. {api-version = "2024-10-21"}."""
    body: dict[str, Any] = {}
    """Added to each request, e.g. {truncate_prompt_tokens = 512}."""
    encoding_format: Literal["base64", "float"] = "base64"
    send_dimensions: bool = False
    """Whether to ask for `dimensions` components: for models whose vectors can be shortened."""
    price_per_million_tokens: Price = Decimal(0)
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    max_concurrency: Annotated[int, Field(ge=1, le=1_000)] = 8
    timeout_s: Seconds = 30.0
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 6
    max_wait_s: Seconds = 60.0
    breaker_failures: Count = 5
    breaker_open_s: Seconds = 30.0

    @property
    def host(self) -> str:
        """Host and port, for people, messages and limits."""
        return urlsplit(self.url).netloc

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http or https address")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must hold no user, password, query or fragment: use api_key_env and query")
        return url.rstrip("/")

    @field_validator("body")
    @classmethod
    def _additions(cls, body: dict[str, Any]) -> dict[str, Any]:
        if own := _OWN_FIELDS & body.keys():
            raise ValueError(f"must not hold {', '.join(sorted(own))}: these are set for each request")
        return body

    @model_validator(mode="after")
    def _key_is_encrypted(self) -> Endpoint:
        clear = self.url.startswith("http:") and not _on_this_machine(urlsplit(self.url).hostname or "")
        if self.api_key_env and clear and not self.allow_plain_http:
            raise ValueError("the key would travel unencrypted: use https, or set allow_plain_http")
        return self


class Model(Endpoint):
    """A remote model: its first endpoint, what its vectors are, and the endpoints that stand in for it."""

    provider: Literal["openai"]
    dimensions: Annotated[int, Field(ge=1, le=16_384)]
    max_tokens: Count = 8_192
    max_characters: Count | None = None
    """Longer texts are cut there before they are sent; by default the endpoint truncates or refuses them."""
    type: Literal["sentence", "document"] = "document"
    licence: str = ""
    query_prompt: str = ""
    document_prompt: str = ""
    normalize: bool = True
    max_items: Annotated[int, Field(ge=1, le=2_048)] = 256
    max_request_tokens: Count = 100_000
    daily_spend_cap: Price | None = None
    backups: list[Endpoint] = []

    def endpoints(self) -> list[Endpoint]:
        """The first, then the backups in their order."""
        return [self, *self.backups]


class ModelsFile(BaseModel):
    """All of it. `daily_spend_cap` limits all models together."""

    model_config = _SHAPE

    daily_spend_cap: Price | None = None
    models: dict[str, Model] = {}


def read_models(path: str | Path) -> ModelsFile:
    """The models file at `path`. Raises InvalidInput, naming file and field, for what cannot be read or
    meant."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InvalidInput(
            f"the models file {str(path)!r} cannot be read: {reason}",
            hint="models_file (VECTABLE_MODELS_FILE) names a TOML file",
        ) from None
    return parse_models(text, str(path))


def parse_models(text: str, name: str = "models file") -> ModelsFile:
    """The models a file's text declares. Raises InvalidInput."""
    try:
        found = ModelsFile.model_validate(tomllib.loads(text, parse_float=Decimal))
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{name} is not valid TOML: {error}") from None
    except ValidationError as error:
        raise InvalidInput(f"{name}: {_described(error)}") from None
    return found.model_copy(update={"models": {i: _named(i, m, name) for i, m in found.models.items()}})


def _described(error: ValidationError) -> str:
    # The values themselves are not shown: somebody may have written a key where its name belongs.
    found = error.errors(include_url=False, include_context=False, include_input=False)
    words = [f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in found[:3]]
    return "; ".join(words)


def _named(id: str, model: Model, name: str) -> Model:
    """The model with its names filled in. Raises InvalidInput for an id that is not a model's name, and for
    a backup that serves something else."""
    if hashing_name(id) is not None:
        raise InvalidInput(f"{name}: {id!r} is the hashing model's name", hint="choose another id")
    canonical_name(id)
    model = _filled(model, id)
    backups = [_filled(backup, model.model) for backup in model.backups]
    for backup in backups:
        if backup.identity != model.identity:
            raise InvalidInput(
                f"{name}: the backup {backup.host} of {id!r} serves {backup.identity!r}, "
                f"not {model.identity!r}: their vectors are not comparable",
                hint="a backup serves the same model; if it only calls it otherwise, set `identity` on both",
                context={"model": id},
            )
    return model.model_copy(update={"backups": backups})


def _filled(endpoint: E, served: str) -> E:
    called = endpoint.model or served
    return endpoint.model_copy(update={"model": called, "identity": endpoint.identity or called})


def _on_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
