"""Every operation says which role it needs, and none is forgotten."""

from __future__ import annotations

from fastapi.routing import APIRoute

from vectable.config import Settings
from vectable.server.app import build_app
from vectable.server.limits import Limits
from vectable.server.roles import NEEDED, needed_role, suffices
from vectable.server.routing import Route


def test_every_operation_has_a_role() -> None:
    routes = [r for r in build_app(Settings(), Limits()).router.routes if isinstance(r, APIRoute)]
    assert all(isinstance(route, Route) for route in routes), "roles are checked by our own routes"
    named = {f"{method} {route.path}" for route in routes for method in route.methods - {"GET"}}
    forgotten = named - NEEDED.keys()
    assert not forgotten, "add them to server/roles.py"


def test_roles_contain_each_other() -> None:
    assert suffices("admin", "read") and suffices("admin", "admin") and suffices("write", "read")
    assert not suffices("read", "write") and not suffices("write", "admin")


def test_what_nobody_thought_of_needs_the_highest_role() -> None:
    assert needed_role("POST", "/new") == "admin"
    assert needed_role("GET", "/new") == "read"
