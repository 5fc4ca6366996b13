"""What every part of the suite stands on: fixtures, and known gaps as strict expected failures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings

from vectable.interfaces import Backend
from vectable.testing.backend_suite.subject import Subject
from vectable.testing.samples import every_type_table, vector_column

PROPERTY = settings(
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
)
"""For properties of a backend: each example makes a table of its own in the one backend of the test."""

Reopen = Callable[[], Awaitable[Backend]]


class SuiteFixtures:
    """Fixtures of the suite; see `BackendSuite` for what a subclass gives."""

    known_gaps: ClassVar[dict[str, str]] = {}

    @pytest.fixture(autouse=True)
    def _expect_known_gap(self, request: pytest.FixtureRequest) -> None:
        name = getattr(request.node, "originalname", request.node.name)
        if name in self.known_gaps:
            request.node.add_marker(pytest.mark.xfail(reason=self.known_gaps[name], strict=True))

    @pytest.fixture
    def reopen(self) -> Reopen | None:
        """Closes the backend (or kills it) and opens its storage again; None where nothing outlives it."""
        return None

    @pytest.fixture
    async def subject(self, backend: Backend) -> Subject:
        """A table with a column of each type and three vector columns of 4 dimensions: `emb` with vectors
        given, `auto` computed, and `lazy` computed with auto_update = false."""
        vectors = (
            vector_column("emb", 4),
            vector_column("auto", 4, auto_update=True),
            vector_column("lazy", 4, auto_update=False),
        )
        return await Subject.create(backend, every_type_table(*vectors))
