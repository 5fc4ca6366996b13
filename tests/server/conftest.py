"""Servers for the tests: one per kind of database and module."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest

from tests.server.live import Live, live_server


@pytest.fixture(scope="module", autouse=True)
def _fake_embeddings() -> Iterator[None]:
    """Hashing stands in for every model, and not beyond these tests."""
    before = os.environ.get("VECTABLE_FAKE_EMBEDDINGS")
    os.environ["VECTABLE_FAKE_EMBEDDINGS"] = "1"
    yield
    if before is None:
        del os.environ["VECTABLE_FAKE_EMBEDDINGS"]
    else:
        os.environ["VECTABLE_FAKE_EMBEDDINGS"] = before


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    url = "memory:" if request.param == "memory" else str(tmp_path_factory.mktemp("served"))
    with live_server(url, fake_embeddings=True, synchronous="normal") as server:
        yield server


@pytest.fixture
def api(live: Live) -> httpx.Client:
    """The server with no tables in it."""
    for table in live.client.get("/api/v1/tables", params={"limit": 10_000}).json()["tables"]:
        live.client.delete(f"/api/v1/tables/{table['namespace']}.{table['name']}")
    return live.client
