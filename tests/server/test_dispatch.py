"""Finding an operation by one look finds what the framework's search would have found."""

from __future__ import annotations

from starlette.routing import Match

from vectable.config import Settings
from vectable.server.app import build_app
from vectable.server.dispatch import ByPath
from vectable.server.limits import Limits
from vectable.server.routing import Route


def test_every_fixed_path_leads_where_the_search_leads() -> None:
    routes = build_app(Settings(), Limits()).router.routes
    first, others = routes[0], [route for route in routes[1:] if isinstance(route, Route)]
    assert isinstance(first, ByPath)
    looked_up = 0
    for route in others:
        for method in route.methods:
            scope = {"type": "http", "method": method, "path": route.path, "headers": []}
            match, found = first.matches(scope)
            if "{" in route.path:
                assert match is Match.NONE
                continue
            searched = next(each for each in others if each.matches(dict(scope))[0] is Match.FULL)
            assert (match, found["route"]) == (Match.FULL, searched)
            looked_up += 1
    assert looked_up > 20


def test_what_it_does_not_know_it_leaves_to_the_search() -> None:
    first = build_app(Settings(), Limits()).router.routes[0]
    for method, path in (("DELETE", "/embed/text"), ("POST", "/embed/text/"), ("POST", "/nowhere")):
        assert first.matches({"type": "http", "method": method, "path": path}) == (Match.NONE, {})
    behind = {"type": "http", "method": "POST", "path": "/embed/text", "root_path": "/api"}
    assert first.matches(behind) == (Match.NONE, {})
