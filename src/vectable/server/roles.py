"""Which role an operation needs: the whole list, to be read at one go."""

from __future__ import annotations

from vectable.engine.keys import ROLES, Role

_TABLE = "/api/v1/tables/{table}"
_READ = (
    f"POST {_TABLE}/query",
    f"POST {_TABLE}/query/count",
    f"POST {_TABLE}/query/explain",
    f"POST {_TABLE}/query/stream",
    f"POST {_TABLE}/search/similarity",
    "POST /api/v1/embeddings/generate",
    "POST /embed/batch",
    "POST /embed/image",
    "POST /embed/text",
    "POST /rerank",
    "POST /similarity",
    "POST /v1/embeddings",
)
_WRITE = (
    f"POST {_TABLE}/rows",
    f"PATCH {_TABLE}/rows",
    f"DELETE {_TABLE}/rows",
    f"POST {_TABLE}/columns/computed/{{name}}/refresh",
    "POST /api/v1/jobs/{id}/cancel",
)
_ADMIN = (
    "POST /api/v1/tables",
    "POST /api/v1/tables/attach",
    f"POST {_TABLE}/detach",
    f"PATCH {_TABLE}",
    f"DELETE {_TABLE}",
    f"POST {_TABLE}/columns/computed/embedding",
    f"DELETE {_TABLE}/columns/computed/{{name}}",
    f"POST {_TABLE}/indexes/vector",
    f"POST {_TABLE}/indexes/scalar",
    f"DELETE {_TABLE}/indexes/{{name}}",
    "POST /api/v1/embeddings/cache/clear",
    "POST /api/v1/embeddings/models/{id:path}/preload",
    "POST /api/v1/embeddings/models/{id:path}/unload",
    "POST /cache/clear",
)
NEEDED: dict[str, Role] = {
    **dict.fromkeys(_READ, "read"),
    **dict.fromkeys(_WRITE, "write"),
    **dict.fromkeys(_ADMIN, "admin"),
}
"""By method and path, of everything but GET. A test checks that no operation is left out."""


_NAMES_ITS_TABLE = frozenset({"POST /api/v1/tables"})


def concerns_all(method: str, path: str) -> bool:
    """Whether the operation governs more than single tables: keys for single ones do not open it. (One that
    names its table in the body checks that itself.)"""
    governs = needed_role(method, path) == "admin" and "{table}" not in path
    return governs and f"{method} {path}" not in _NAMES_ITS_TABLE


def needed_role(method: str, path: str) -> Role:
    """The least role for the operation at that path template. What nobody thought of needs the highest."""
    return "read" if method in ("GET", "HEAD") else NEEDED.get(f"{method} {path}", "admin")


def suffices(role: Role, needed: Role) -> bool:
    """Whether a key of `role` may do what needs `needed`."""
    return ROLES.index(role) >= ROLES.index(needed)
