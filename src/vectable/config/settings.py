"""Everything that can be set, each with its default, its bounds and what it does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from vectable.config.about import About, check_value, setting
from vectable.errors import InvalidInput

DEFAULT_DATABASE = "./vectable-data"
DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_DAY_MS = 24 * 3_600_000


def default_cache_directory() -> Path:
    """Where derived model files are kept: $XDG_CACHE_HOME/vectable, else ~/.cache/vectable."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vectable"


def _directory(model: str) -> str:
    """What a model in a directory is called wherever it is listed; "" for one that is in none."""
    path, mark, runtime = model.partition("?")
    directory = Path(path).expanduser()
    return f"{directory.resolve()}{mark}{runtime}" if path and directory.is_dir() else ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Sizes in bytes, times in milliseconds."""

    db: str = setting(
        DEFAULT_DATABASE,
        "tables",
        "The database: a directory, or postgresql://USER@HOST/DATABASE.",
        address=True,
    )
    host: str = setting("127.0.0.1", "server", "Address to listen on.")
    port: int = setting(3_000, "server", "Port; 0 takes a free one.", plain="PORT", most=65_535)
    request_timeout_ms: int = setting(30_000, "server", "Longest request.", least=1, most=_DAY_MS, unit="ms")
    shutdown_grace_ms: int = setting(
        5_000,
        "server",
        "How long a stopping server lets requests under way come to their end.",
        most=_DAY_MS,
        unit="ms",
    )
    max_body_bytes: int = setting(
        64 << 20,
        "server",
        "Longest JSON body; streams of rows may be of any length.",
        least=1,
        unit="bytes",
    )
    max_in_flight: int = setting(
        512,
        "server",
        "Requests worked on at once, shared out among the workers; more are told to come back.",
        least=1,
    )
    client_requests_per_minute: int = setting(
        0,
        "server",
        "Requests a minute of one client (a key, or an address), a tenth of them at once, shared out among "
        "the workers; 0: any number.",
        most=1_000_000,
    )
    max_workers: int = setting(
        4,
        "server",
        "Threads for work beside the event loop: models, images, files.",
        plain="MAX_WORKERS",
        least=1,
        most=1_024,
    )
    workers: int = setting(
        1,
        "server",
        "Processes that serve; each has its own models and its own memory tier of the cache.",
        least=1,
        most=256,
    )
    reload: bool = setting(
        False, "server", "Start anew when the code of Vectable changes: for its development."
    )
    tls_cert: str = setting("", "access", "File with the certificate, and its chain, in PEM: serves https.")
    tls_key: str = setting("", "access", "File with the certificate's key.")
    insecure: bool = setting(
        False,
        "access",
        "Serve other machines without keys and without TLS: whoever reaches the server may do everything.",
    )
    trusted_proxies: str = setting(
        "",
        "access",
        "Addresses and networks, comma separated, of proxies that end TLS: what they say of clients counts.",
    )
    refusals_per_minute: int = setting(
        30,
        "access",
        "Refusals after which a client is not listened to for a minute, shared out among the workers.",
        least=1,
    )
    metrics_open: bool = setting(False, "access", "Whether /metrics asks nobody for a key.")
    allowed_hosts: str = setting(
        "",
        "access",
        "Names, comma separated, under which a server on loopback answers beside localhost.",
    )
    log_format: str = setting(
        "text",
        "logs",
        "text for people, json for programs (one object a line).",
        plain="NODE_ENV",
        words={"production": "json", "": "text"},
        choices=("text", "json"),
    )
    log_level: str = setting(
        "warning",
        "logs",
        "What is logged; info has a line for every request, without its texts.",
        choices=("debug", "info", "warning", "error"),
    )
    traces: bool = setting(
        False, "logs", "Send OpenTelemetry traces where OTEL_* variables say; needs vectable[traces]."
    )
    text_model: str = setting(
        DEFAULT_MODEL, "models", "The model for text where none is named.", plain="TEXT_MODEL"
    )
    image_model: str = setting(
        "openai/clip-vit-base-patch32",
        "models",
        "The model for images where none is named, where it can be had.",
        plain="IMAGE_MODEL",
    )
    media_root: str = setting(
        "", "models", "The directory whose images requests may name by their paths in it."
    )
    image_urls: bool = setting(
        False, "models", "Fetch images from the addresses that requests name: public ones only."
    )
    preload: bool = setting(
        True,
        "models",
        "Load the default models as a server starts, in the background, where they are on this machine.",
    )
    preload_models: str = setting(
        "",
        "models",
        "More models to load as a server starts, comma separated; fetched where they are not here yet.",
    )
    model_keep_alive_ms: int = setting(
        0,
        "models",
        "How long a model stays in memory after its last use; 0: for as long as the process runs.",
        unit="ms",
    )
    batch_size: int = setting(
        100,
        "models",
        "Items handed to a model at once, at most.",
        plain="BATCH_SIZE",
        least=1,
        most=10_000,
    )
    embed_batch_tokens: int = setting(
        1_024, "models", "Padded tokens handed to a model at once.", least=1, most=1 << 30
    )
    models_file: str = setting(
        "", "models", "A TOML file that declares models served elsewhere.", default_text="none"
    )
    embed_queue_tokens: int = setting(
        1 << 18,
        "models",
        "Tokens that may wait for a model here; then requests are told when to come back.",
        least=1,
    )
    cache_dir: str = setting("", "models", "Where derived model files go.", default_text="~/.cache/vectable")
    model_paths: bool = setting(
        True,
        "models",
        "Whether a model may be named by a local path. A server turns this off: names come from others.",
        flag=False,
    )
    fake_embeddings: bool = setting(
        False,
        "models",
        "Hashes in place of every model: for tests, no meaning.",
        plain="APP_USE_FAKE_EMBEDDINGS",
    )
    cache_max_size: int = setting(10_000, "cache", "Vectors cached in memory.", plain="CACHE_MAX_SIZE")
    cache_ttl_ms: int = setting(
        3_600_000, "cache", "How long vectors stay cached in memory.", plain="CACHE_TTL", unit="ms"
    )
    persistent_cache_bytes: int = setting(
        4 << 30,
        "cache",
        "Size of the vector cache kept with the database; the oldest entries go first.",
        unit="bytes",
    )
    inline_cells: int = setting(100, "tables", "Changed cells embedded within the write; more become a job.")
    resident_bytes: int = setting(
        1 << 30, "tables", "Memory for resident indexes; 0 turns them off.", unit="bytes"
    )
    search_threads: int = setting(2, "tables", "Searches at once.", least=1, most=1_024)
    synchronous: str = setting(
        "full",
        "sqlite",
        "full: a power cut loses nothing acknowledged; normal: faster, kill -9 loses nothing.",
        choices=("full", "normal"),
    )
    busy_timeout_ms: int = setting(
        30_000, "sqlite", "Longest wait for another process that writes.", unit="ms"
    )
    postgres_pool_min: int = setting(
        5, "postgresql", "Connections that stay open; never more than postgres_pool_max."
    )
    postgres_pool_max: int = setting(
        20, "postgresql", "Connections at most, for each process.", least=1, most=10_000
    )
    postgres_pool_wait_ms: int = setting(
        10_000,
        "postgresql",
        "How long a call waits for a connection while all are in use; then it fails, overloaded.",
        least=1,
        most=3_600_000,
        unit="ms",
    )
    postgres_statement_timeout_ms: int = setting(
        60_000,
        "postgresql",
        "Longest statement; 0: any. Index builds and the like have no such limit.",
        most=(1 << 31) - 1,
        unit="ms",
    )
    postgres_rows_schema: str = setting(
        "public", "postgresql", "The schema in which the rows of tables are put."
    )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **arguments: Any) -> Self:
        """Settings with `arguments` (None: not given) over the environment (VECTABLE_* over plain names) over
        the file that VECTABLE_ENV_FILE names, if any, over the defaults. Raises InvalidInput naming what
        cannot be read."""
        from vectable.config.sources import force

        return cls(**{found.name: found.value for found in force(environ, **arguments)})

    def __post_init__(self) -> None:
        """Raises InvalidInput for a value that does not fit its setting."""
        for name, about, default in described_settings():
            _check(name, getattr(self, name), type(default), about)

    @property
    def preloaded_models(self) -> tuple[str, ...]:
        """The names in `preload_models`."""
        return tuple(name.strip() for name in self.preload_models.split(",") if name.strip())

    @property
    def named_models(self) -> frozenset[str]:
        """The models that the settings name."""
        return frozenset({self.text_model, self.image_model, *self.preloaded_models})

    def names_model(self, name: str) -> bool:
        """Whether the settings name that model, as it is or by another path of the same directory."""
        named = self.named_models
        return name in named or (os.path.isabs(name) and name in {_directory(other) for other in named})

    @property
    def cache_directory(self) -> Path:
        """`cache_dir`, else the user's cache directory."""
        return Path(self.cache_dir) if self.cache_dir else default_cache_directory()


_DESCRIBED: list[tuple[str, About, Any]] = []


def described_settings() -> list[tuple[str, About, Any]]:
    """Every setting: its name, what is to be known of it, its default."""
    if not _DESCRIBED:
        _DESCRIBED.extend((each.name, each.metadata["about"], each.default) for each in fields(Settings))
    return _DESCRIBED


def _check(name: str, value: Any, kind: type, about: About) -> None:
    if type(value) is not kind:
        wanted = {bool: "true or false", int: "a whole number"}.get(kind, "text")
        raise InvalidInput(f"the setting {name!r} is {wanted}, not {type(value).__name__}")
    check_value(f"the setting {name!r} is {value!r}, which", value, about)
