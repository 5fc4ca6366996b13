"""Requests to their operations: by one look where a path has no parameters, else by the usual search."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from vectable.server.routing import Route


class ByPath(BaseRoute):
    """Stands before all other routes: the framework asks one after the other, at 5 µs each."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._found: dict[tuple[str, str], Route] = {}
        for route in routes:
            if isinstance(route, Route) and "{" not in route.path:
                for method in route.methods or ():
                    self._found.setdefault((method, route.path), route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """A full match of a path it knows, or none: then the others are asked."""
        if scope["type"] != "http" or scope.get("root_path"):
            return Match.NONE, {}
        route = self._found.get((scope["method"], scope["path"]))
        if route is None:
            return Match.NONE, {}
        return Match.FULL, {"endpoint": route.endpoint, "path_params": {}, "route": route}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Has the operation answer that was found."""
        await scope["route"].app(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: object) -> NoMatchFound:  # type: ignore[override]
        """It names no path: the routes behind it do."""
        raise NoMatchFound(name, path_params)
