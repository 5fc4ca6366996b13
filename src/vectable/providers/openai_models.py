"""Remote models as the models file declares them: checked when read, secrets named and never held.

The file is TOML; each `[models."ID"]` is a model. What a model may say is the fields of `Model` and
`Endpoint` below.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from vectable.errors import InvalidInput, did_you_mean
from vectable.providers.catalog import canonical_name, hashing_name

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Price = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
E = TypeVar("E", bound="Endpoint")
_SHAPE = ConfigDict(extra="forbid", frozen=True)
_OWN_FIELDS = frozenset({"model", "input", "encoding_format", "dimensions"})
_OWN_HEADERS = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection"})
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
_HOLDS_A_KEY = re.compile(r"key|secret|passw|bearer|^token$", re.IGNORECASE)
_SECRET = re.compile(r"key|token|secret|passw|signature|^sig$", re.IGNORECASE)


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
    api_key_file: str = ""
    """The file that holds the key and nothing else; read when the model is first used."""
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
    """How long one request may wait between its tries, in all."""
    first_wait_s: Seconds = 0.5
    """About how long it waits before its second try; each further wait is up to twice as long."""
    breaker_failures: Count = 5
    breaker_open_s: Seconds = 30.0

    @property
    def host(self) -> str:
        """Host and port, for people, messages and limits."""
        return urlsplit(self.url).netloc.lower()

    @property
    def on_this_machine(self) -> bool:
        """Whether its address is a loopback one."""
        return _on_this_machine(urlsplit(self.url).hostname or "")

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

    @field_validator("query")
    @classmethod
    def _no_secrets(cls, query: dict[str, str]) -> dict[str, str]:
        if odd := [name for name in query if _SECRET.search(name)]:
            raise ValueError(f"must not hold {odd[0]}: addresses are logged, so the key goes into a header")
        return query

    @field_validator("api_key_header")
    @classmethod
    def _header(cls, name: str) -> str:
        if not _HEADER.fullmatch(name) or name.lower() in _OWN_HEADERS:
            raise ValueError("must be a header's name")
        return name.lower()

    @model_validator(mode="after")
    def _key_is_safe(self) -> Self:
        if self.api_key_env and self.api_key_file:
            raise ValueError("give api_key_env or api_key_file, not both")
        clear = self.url.startswith("http:") and not self.on_this_machine
        if (self.api_key_env or self.api_key_file) and clear and not self.allow_plain_http:
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

    @model_validator(mode="after")
    def _cap_has_a_price(self) -> Self:
        if self.daily_spend_cap is not None and not self.paid:
            raise ValueError("daily_spend_cap needs price_per_million_tokens: without it nothing is counted")
        return self

    @property
    def paid(self) -> bool:
        """Whether any of its endpoints takes money."""
        return any(endpoint.price_per_million_tokens for endpoint in self.endpoints())

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
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {_reason(e)}" for e in found[:3])


def _reason(error: ErrorDetails) -> str:
    if error["type"] != "extra_forbidden":
        return error["msg"].removeprefix("Value error, ")
    if _HOLDS_A_KEY.search(str(error["loc"][-1])):
        return "keys are not written here: api_key_env names a variable, api_key_file a file that holds one"
    known = {**Model.model_fields, **ModelsFile.model_fields}
    return f"there is no such field ({did_you_mean(str(error['loc'][-1]), known, 'fields')})"


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
