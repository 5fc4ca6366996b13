"""What a server tells of itself."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Live(BaseModel):
    """The process answers."""

    status: str = Field(examples=["alive"])


class Ready(BaseModel):
    """The server can do its work."""

    status: str = Field(examples=["ready"])


class Latency(BaseModel):
    """Milliseconds since the start; null where nothing was measured yet."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None


class RequestStats(BaseModel):
    total: int
    inFlight: int  # noqa: N815 - as the other service endpoints
    perSecond: float  # noqa: N815
    perSecondLastMinute: float  # noqa: N815


class StageStats(BaseModel):
    """`total`: whole requests. The others: single pieces of work."""

    total: Latency
    tokenise: Latency
    queue: Latency
    inference: Latency
    search: Latency


class EmbeddedStats(BaseModel):
    """What models computed: the cache's hits are not among it."""

    items: int
    tokens: int
    itemsPerSecondLastMinute: float  # noqa: N815
    itemsPerBatch: float | None  # noqa: N815


class CacheUse(BaseModel):
    size: int
    bytes: int
    hits: int
    misses: int
    hitRate: float  # noqa: N815


class MemoryStats(BaseModel):
    """In bytes."""

    bytes: int
    residentIndexes: int  # noqa: N815


class Stats(BaseModel):
    """The server in figures, for people."""

    uptime: float
    requests: RequestStats
    latency: StageStats
    routes: dict[str, Latency]
    embedded: EmbeddedStats
    cache: CacheUse
    memory: MemoryStats
    errors: dict[str, int]
    refusals: dict[str, int]
